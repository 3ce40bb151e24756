"""Reports: JSON as documented, and their text forms."""

from __future__ import annotations

import json

import pytest

from h5bound.reports.conversion import ConversionReport
from h5bound.reports.entries import Converted, Difference, Link, ReportNote, Skipped, SourceInfo
from h5bound.reports.text import MAX_LISTED, format_nbytes
from h5bound.reports.verification import VerificationReport

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
        notes=(ReportNote("/mytype", "committed type"),),
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
        "notes": [{"path": "/mytype", "note": "committed type"}],
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
        converted=(Converted("/x", "x", "decoded", 1, 10, 12, ("contiguous",)),),
        skipped=(Skipped("/odd\n", "no Zarr form"),),
        verification=VERIFIED,
    )
    text = repr(report)
    assert "scan.h5 -> scan.zarr" in text
    assert "skipped /odd\\n: no Zarr form" in text
    assert "not copied /x: contiguous" in text
    assert "verified: equal" in text


def test_the_repr_cuts_off_a_long_list() -> None:
    report = conversion(skipped=tuple(Skipped(f"/{i}", "no form") for i in range(MAX_LISTED + 5)))
    assert "… and 5 more" in repr(report)
    assert len(repr(report).splitlines()) == MAX_LISTED + 3


def test_a_verification_report_lists_differences_by_object_and_attribute() -> None:
    report = VerificationReport(
        "a.h5", "a.zarr", 1, 1, 8, 0.1, (Difference("/x", "differs", "units"),), (Skipped("/y", "no form"),)
    )
    assert not report.equal
    assert report.exit_code == 1
    assert "differs attribute 'units' of /x: differs" in repr(report)
    entry = json.loads(report.to_json())
    assert entry["differences"] == [{"path": "/x", "attribute": "units", "what": "differs"}]
    assert entry["skipped"] == [{"path": "/y", "reason": "no form"}]


@pytest.mark.parametrize(("nbytes", "text"), [(1023, "1023 B"), (1024, "1.0 KiB"), (2**50, "1.0 PiB")])
def test_sizes_are_readable(nbytes: int, text: str) -> None:
    assert format_nbytes(nbytes) == text
