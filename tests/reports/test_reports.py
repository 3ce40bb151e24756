"""Reports: JSON as documented, and their text forms."""

from __future__ import annotations

import json
from unittest.mock import patch

import pytest

from h5bound.reports.conversion import ConversionReport
from h5bound.reports.entries import KEPT, Converted, Difference, Link, ReportNote, Skipped, SourceInfo, list_by_reason
from h5bound.reports.forms import FORMS
from h5bound.reports.html import MAX_HTML
from h5bound.reports.text import SCREEN_ROWS, SCREEN_WIDTH, count_rows, format_nbytes
from h5bound.reports.verification import VerificationReport
from tests.support.html import CheckedHtml

SOURCE = SourceInfo("scan.h5", 123, 456, "2.0.0")
VERIFIED = VerificationReport("scan.h5", "scan.zarr", 2, 3, 4096, 0.5)


def conversion(**changes: object) -> ConversionReport:
    fields: dict[str, object] = {
        "source": SOURCE,
        "target": "scan.zarr",
        "complete": True,
        "seconds": 1.2345,
        "h5bound": "0.1.0",
        "converted": (Converted("/", ""), Converted("/x", "x", "copied", 148, 380, 380)),
    }
    return ConversionReport(**{**fields, **changes})  # type: ignore[arg-type]  # a test's fields by name


def test_a_conversion_report_is_the_documented_json() -> None:
    report = conversion(
        skipped=(Skipped("/odd", "no Zarr form"), Skipped("/x", "region reference", attribute="roi")),
        links=(Link("/again", "hard", "/x"),),
        notes=(
            ReportNote("/mytype", "committed type"),
            ReportNote("/%", "escaped", "renamed", to="%25"),
            ReportNote("/x", "odd", "attribute", "v"),
            ReportNote("/v", "a group", "sequences"),
        ),
    )
    assert json.loads(report.to_json()) == {
        "version": 1,
        "h5bound": "0.1.0",
        "complete": True,
        "seconds": 1.234,
        "source": {"path": "scan.h5", "size": 123, "mtime_ns": 456, "hdf5": "2.0.0"},
        "target": "scan.zarr",
        "converted": [
            {"path": "/", "target": ""},
            {
                "path": "/x",
                "target": "x",
                "how": "copied",
                "chunks": 148,
                "stored_bytes": 380,
                "written_bytes": 380,
                "reasons": [],
            },
        ],
        "skipped": [
            {"path": "/odd", "reason": "no Zarr form"},
            {"path": "/x", "attribute": "roi", "reason": "region reference"},
        ],
        "links": [{"path": "/again", "kind": "hard", "to": "/x"}],
        "notes": [
            {"path": "/mytype", "note": "committed type"},
            {"path": "/%", "note": "escaped", "to": "%25", "kind": "renamed"},
            {"path": "/x", "attribute": "v", "note": "odd", "kind": "attribute"},
            {"path": "/v", "note": "a group", "kind": "sequences"},
        ],
        "forms": {
            kind: {"count": 1, "advice": FORMS[kind].advice} for kind in ("attribute", "link", "renamed", "sequences")
        },
    }


def test_a_name_that_is_not_utf8_has_lone_surrogates_in_json() -> None:
    text = conversion(converted=(Converted("/\udcff", "%FF"),)).to_json()
    assert text.isascii()
    assert "\\udcff" in text
    assert json.loads(text)["converted"][0]["path"] == "/\udcff"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({}, 0, id="everything"),
        pytest.param({"skipped": (Skipped("/odd", "no form"),)}, 3, id="something skipped"),
        pytest.param({"verification": VERIFIED}, 0, id="verified"),
        pytest.param(
            {"verification": VerificationReport("a", "b", 1, 0, 8, 0.1, (Difference("/x", "differs"),))},
            1,
            id="unequal",
        ),
    ],
)
def test_the_exit_code_follows_from_the_report(changes: dict[str, object], code: int) -> None:
    assert conversion(**changes).exit_code == code


def test_the_repr_says_what_was_left_out_and_what_was_not_kept() -> None:
    report = conversion(
        converted=(
            Converted("/x", "x", "decoded", 1, 10, 12, ("HDF5's filter lzf",)),
            Converted("/never", "never", "metadata", reasons=("contiguous",)),
            Converted("/%", "%25", "copied", 1, 10, 10),
        ),
        skipped=(Skipped("/odd\n", "no Zarr form"), Skipped("/raw", "left out by include or exclude", asked=True)),
        links=(Link("/again", "hard", "/x"),),
        notes=(
            ReportNote("/mytype", "committed type"),
            ReportNote("/%", "the name is escaped in the store", "renamed", to="%25"),
            ReportNote("/x", "odd", "attribute", "v"),
            ReportNote("/x", "odd", "attribute", "w"),
        ),
        verification=VERIFIED,
    )
    assert repr(report).splitlines() == [
        "<ConversionReport scan.h5 -> scan.zarr",
        "  3 datasets (1 copied, 1 decoded, 1 metadata), 0 groups; 20 B stored, 22 B written in 1.23 s; "
        "in another form: 1 link, 1 renamed node, 2 attributes; "
        "1 object left out by include or exclude; 1 object skipped; complete",
        "  verified: equal; 2 datasets, 3 attributes, 4.0 KiB compared in 0.50 s",
        "  skipped: /odd\\n: no Zarr form",
        f"  in another form: 2 attributes: odd; {FORMS['attribute'].advice} ('v' of /x, 'w' of /x)",
        f"  in another form: hard link /again -> /x: {KEPT}; {FORMS['link'].advice}",
        f"  in another form: renamed node /% -> %25: the name is escaped in the store; {FORMS['renamed'].advice}",
        "  note: /mytype: committed type",
        "  decoded: /x: HDF5's filter lzf",
        "  metadata: /never: no values are stored in the file>",
    ]


def test_an_array_that_is_not_copied_counts_once() -> None:
    big, few = "big-endian text", "3 of 20 chunks re-encoded"
    report = conversion(
        converted=(
            Converted("/a", "a", "decoded", 1, 10, 12, ("contiguous", big)),
            Converted("/b", "b", "decoded", 1, 10, 12, ("contiguous", few)),
            Converted("/c", "c", "decoded", 1, 10, 12, ("contiguous", "4 of 9 chunks re-encoded")),
        ),
    )
    plain = "contiguous in the file, without chunks"
    assert [line.strip(" >") for line in repr(report).splitlines() if "decoded: " in line] == [
        f"decoded: 2 datasets: {plain}; some chunks re-encoded (/b, /c)",
        f"decoded: /a: {plain}; {big}",
    ]


def test_what_is_not_there_is_not_counted() -> None:
    assert conversion(converted=(Converted("/", ""),)).summary() == "no datasets, 1 group; complete"
    assert (
        conversion(complete=False).summary() == "1 dataset (1 copied), 1 group; 380 B stored; dry run: nothing written"
    )


def make_large(count: int) -> ConversionReport:
    """Return a report on so many objects, of each kind that there is."""
    name = "<script>alert('&')</script>\x1b[31m\udcff " + "n" * 40
    reasons = [f"reason {number} " + "that takes more than one line on a screen " * 3 for number in range(40)]
    return conversion(
        converted=(
            Converted("/", ""),
            *(
                Converted(
                    f"/{i}{name}",
                    f"{i}x",
                    ("copied", "decoded", "mixed", "metadata")[i % 4],
                    i,
                    i,
                    i,
                    tuple(reasons[i % 40 : i % 40 + 2]),
                )
                for i in range(count)
            ),
        ),
        skipped=tuple(
            Skipped(f"/s{i}{name}", reasons[i % 40], attribute="units" if i % 2 else None, asked=i % 3 == 0)
            for i in range(count)
        ),
        links=tuple(Link(f"/l{i}{name}", ("hard", "soft")[i % 2], f"/{name}") for i in range(count)),
        notes=tuple(ReportNote(f"/n{i}{name}", f"attribute {name!r} is odd") for i in range(count)),
        verification=VerificationReport(
            "a.h5",
            "a.zarr",
            count,
            count,
            count,
            0.5,
            tuple(Difference(f"/d{i}", reasons[i % 7]) for i in range(count)),
        ),
    )


@pytest.mark.parametrize("count", [2, 30, 1000])
def test_the_text_form_is_never_longer_than_a_screen(count: int) -> None:
    report = make_large(count)
    for text in (repr(report), repr(report.verification)):
        assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}
        assert sum(count_rows(line, SCREEN_WIDTH) for line in text.splitlines()) <= SCREEN_ROWS + 1
    assert "\x1b" not in repr(report)


def test_a_reason_is_named_once_with_its_count() -> None:
    skipped = tuple(Skipped(f"/{i}", "no Zarr form") for i in range(680))
    links = tuple(Skipped(f"/e{i}", f"external link to raw{i}.h5:/x: no such file") for i in range(680))
    text = repr(conversion(skipped=(*skipped, *links)))
    assert "skipped: 680 objects: no Zarr form (/0, /1, /2, …)" in text
    assert "skipped: 680 objects: external link: no such file (/e0, /e1, /e2, …)" in text
    assert "1,360 objects skipped" in text


def test_html_escapes_names_and_is_short() -> None:
    html = make_large(1000)._repr_html_()
    assert len(html.encode()) <= MAX_HTML
    assert "<script" not in html
    assert "\x1b" not in html
    assert "&lt;script&gt;" in html
    assert "<details>" in html


def test_html_has_the_sizes_of_all_arrays_together_and_of_each() -> None:
    lines = CheckedHtml(conversion()._repr_html_()).text
    assert "x () copied 380 B" in lines
    many = conversion(converted=tuple(Converted(f"/{i}", f"{i}", "copied", 1, 2**20, 2**20) for i in range(50)))
    assert "copied 50 50 50.0 MiB 50.0 MiB" in CheckedHtml(many._repr_html_()).text


def test_a_verification_report_lists_differences_by_object_and_attribute() -> None:
    report = VerificationReport(
        "a.h5", "a.zarr", 1, 1, 8, 0.1, (Difference("/x", "differs", "units"),), (Skipped("/y", "no form"),)
    )
    assert not report.equal
    assert report.exit_code == 1
    assert "differs: attribute 'units' of /x: differs" in repr(report)
    assert "not compared: /y: no form" in repr(report)
    assert "1 difference" in report._repr_html_()
    entry = json.loads(report.to_json())
    assert entry["differences"] == [{"path": "/x", "attribute": "units", "what": "differs"}]
    assert entry["skipped"] == [{"path": "/y", "reason": "no form"}]


@pytest.mark.parametrize(("nbytes", "text"), [(1023, "1023 B"), (1024, "1.0 KiB"), (2**50, "1.0 PiB")])
def test_sizes_are_readable(nbytes: int, text: str) -> None:
    assert format_nbytes(nbytes) == text


def test_refusals_of_one_kind_are_one_list_though_each_has_its_own_words() -> None:
    links = [Skipped(f"/e{i}", f"external link to raw{i}.h5:/x: no such file") for i in range(2)]
    assert list_by_reason([*links, Skipped("/a", "odd", attribute="units")]) == [
        "  external link: no such file:",
        "    /e0: external link to raw0.h5:/x: no such file",
        "    /e1: external link to raw1.h5:/x: no such file",
        "  attribute 'units' of /a: odd",
    ]


def test_the_repr_makes_no_rows_of_arrays() -> None:
    report = make_large(1000)
    with patch("h5bound.reports.conversion.describe_sizes", side_effect=AssertionError):
        assert "1,000 datasets" in repr(report)
