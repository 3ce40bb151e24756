"""What the commands print of a report: at most a screen, or all."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from h5bound.cli.display import PLAIN_WIDTH, show_report
from h5bound.reports.batch import BatchReport, Failure
from h5bound.reports.conversion import ConversionReport
from h5bound.reports.entries import Converted, Difference, Link, ReportNote, Skipped, SourceInfo
from h5bound.reports.remarks import Fact, Section, group_facts
from h5bound.reports.verification import VerificationReport


def make_report(count: int, name: str = "scan.h5") -> ConversionReport:
    """Return a report on a file with so many datasets, and as many of all else."""
    reasons = [f"reason {number}, " + "which takes more than one line on a screen, " * 3 for number in range(30)]
    hows = ("copied", "decoded", "mixed", "metadata")
    return ConversionReport(
        source=SourceInfo(name, size=1, mtime_ns=1, hdf5="2.0.0"),
        target="scan.zarr",
        complete=True,
        seconds=1.0,
        h5bound="1",
        converted=tuple(
            Converted(
                path=f"/run/{'instrument/' * 8}{i}",
                target="",
                how=hows[i % 4],  # type: ignore[arg-type]  # a Strategy
                chunks=1,
                reasons=(reasons[i % 30], "contiguous"),
            )
            for i in range(count)
        ),
        skipped=tuple(Skipped(f"/skipped{i}", reasons[i % 30]) for i in range(count)),
        links=tuple(Link(f"/link{i}", "soft", "/x") for i in range(count)),
        notes=tuple(ReportNote(f"/note{i}", reasons[i % 30]) for i in range(count)),
        verification=VerificationReport(
            source=name,
            target="scan.zarr",
            arrays=count,
            attributes=0,
            nbytes=1,
            seconds=1.0,
            differences=tuple(Difference(f"/different{i}", reasons[i % 30]) for i in range(count)),
            skipped=tuple(Skipped(f"/skipped{i}", reasons[i % 30]) for i in range(count)),
        ),
    )


def print_lines(
    report: ConversionReport | VerificationReport | BatchReport, *, verbose: bool = False, width: int = 80
) -> list[str]:
    """Return the lines on a terminal of so many columns."""
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    show_report(console, report, verbose=verbose)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


def make_batch(count: int) -> BatchReport:
    failed = tuple(
        Failure(f"/data/bad{i}.h5", f"/out/bad{i}.zarr", f"/data/bad{i}.h5: no HDF5 file") for i in range(count)
    )
    conversions = tuple(make_report(3, f"/data/scan{i}.h5") for i in range(count))
    return BatchReport("/out", 1.0, "1", conversions=conversions, failed=failed)


@pytest.mark.parametrize("count", [3, 12, 680])
@pytest.mark.parametrize("kind", ["conversion", "verification", "batch"])
def test_a_report_takes_at_most_a_screen(kind: str, count: int) -> None:
    report = make_report(count)
    shown = {"conversion": report, "verification": report.verification, "batch": make_batch(count)}[kind]
    assert shown is not None
    lines = print_lines(shown)
    assert 3 <= len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "--verbose lists all"


def test_verbose_lists_each_array_and_object() -> None:
    text = "".join(print_lines(make_report(680), verbose=True))
    for i in (0, 321, 679):
        for name in (f"/{i} ", f"/skipped{i}:", f"/link{i} ->", f"/note{i}:", f"/different{i}:"):
            assert name in text
    assert "--verbose" not in text


def test_few_arrays_have_a_row_each_and_a_reason_is_named_once() -> None:
    report = make_report(0)
    arrays = tuple(Converted(f"/{name}", name, "decoded", 1, 8, 2**21, ("contiguous",)) for name in "abc")
    lines = print_lines(ConversionReport(report.source, "a.zarr", True, 1.0, "1", (Converted("/", ""), *arrays)))
    assert [line.rstrip() for line in lines if "─" not in line] == [
        "3 datasets (3 decoded), 1 group; 24 B stored, 6.0 MiB written in 1.00 s;",
        "complete",
        "dataset   how       chunks   stored   written",
        "/a        decoded        1      8 B   2.0 MiB",
        "/b        decoded        1      8 B   2.0 MiB",
        "/c        decoded        1      8 B   2.0 MiB",
        "decoded: 3 datasets: contiguous in the file, without chunks (/a, /b, /c)",
    ]


@pytest.mark.parametrize("width", [20, 40, 60])
def test_on_a_narrow_terminal_names_come_first(width: int) -> None:
    report = make_report(0)
    arrays = tuple(Converted(f"/array{i}", f"array{i}", "decoded", 1000, 2**30, 2**30) for i in range(3))
    lines = print_lines(ConversionReport(report.source, "a.zarr", True, 1.0, "1", arrays), width=width)
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines[-3:]] == ["/array0", "/array1", "/array2"]
    assert any("/array0" in line and "1.0 GiB" in line for line in lines) == (width > 40)


def make_named(count: int, name: str) -> ConversionReport:
    """Return a report that skipped so many arrays whose names begin in this way."""
    skipped = tuple(Skipped(f"{name}{i}", "no Zarr form") for i in range(count))
    return ConversionReport(make_report(0).source, "a.zarr", True, 1.0, "1", (Converted("/", ""),), skipped)


def test_in_a_pipe_no_name_is_cut() -> None:
    name = f"/entry/{'instrument_' * 10}"
    assert f"{name}0, {name}1)" in "".join(print_lines(make_named(2, name), width=PLAIN_WIDTH))
    assert "…" in "".join(print_lines(make_named(2, name), width=80))


def test_in_a_pipe_and_with_verbose_no_reason_is_left_out() -> None:
    failed = tuple(Failure(f"/data/{i}.h5", f"/out/{i}.zarr", f"/data/{i}.h5: reason {i}") for i in range(54))
    report = BatchReport("/out", 1.0, "1", failed=failed)
    for lines in (print_lines(report, width=PLAIN_WIDTH), print_lines(report, verbose=True)):
        assert [line for line in lines if "failed: " in line] == [
            f"failed: /data/{i}.h5: reason {i}" for i in range(54)
        ]
    lines = print_lines(report)
    assert len(lines) <= 24
    assert lines[-1] == "--verbose lists all"


def test_a_list_that_is_cut_ends_with_its_bracket() -> None:
    facts = [Fact.of("object", f"/value{i}", "odd " * 42) for i in range(2)]
    (line,) = Section("skipped", group_facts(facts)).list_lines(3, 100)
    assert line.startswith("skipped: 2 objects: odd odd")
    assert line.endswith(" (/value0,…)")
    assert len(line) == 200


def test_a_source_that_failed_is_one_line() -> None:
    lines = print_lines(make_batch(1))
    assert [line for line in lines if "bad0" in line] == ["failed: /data/bad0.h5: no HDF5 file"]


@pytest.mark.parametrize("details", ["  /a: b\n  /c: d", "  b:\n    /a\n    /c"], ids=["two reasons", "one reason"])
def test_a_source_that_failed_for_many_reasons_names_the_first(details: str) -> None:
    error = f"/data/odd.h5: 2 things cannot be converted (on_unsupported='skip' skips and lists them)\n{details}"
    report = BatchReport("/out", 1.0, "1", failed=(Failure("/data/odd.h5", "/out/odd.zarr", error),))
    lines = print_lines(report, width=200)
    way_out = "--on-unsupported skip skips and lists them"
    example = "/a: b" if details.startswith("  /a") else "b: /a"
    assert lines[1] == f"failed: /data/odd.h5: 2 things cannot be converted ({way_out}): {example}; …"


def test_html_of_many_sources_has_a_row_for_each_and_the_errors() -> None:
    html = make_batch(2)._repr_html_()
    assert html.count('<em class="different">') == 2
    assert '<td class="l">/data/scan1.h5' in html
    assert "failed: 2 files: no HDF5 file" in html
    assert "<bdi>/data/bad1.h5</bdi>" in html
