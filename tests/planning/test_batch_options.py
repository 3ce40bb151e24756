"""Globs and shapes for many sources: which sources get them, and when they are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr

from h5bound import OptionError, convert

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Return three files: with images and a log, with an image, and with sequences."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"], file["log"] = np.ones((6, 6)), np.arange(9)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["image"] = np.ones((6, 6))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        held = np.array([np.arange(2), np.arange(3)], object)
        file.create_dataset("events", data=held, dtype=h5py.vlen_dtype("<i4"))
    return [tmp_path / f"{name}.h5" for name in "abc"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": ["/imge"]}, "include='/imge': matches nothing in any of 3 files; close to it: /image"),
        ({"exclude": ["/log", "/none"]}, "exclude='/none': matches nothing in any of 3 files"),
        ({"chunks": {"/log": (2, 2)}}, r"chunks={'/log': \(2, 2\)}: no dataset that it matches in any"),
        ({"chunks": (2, 2, 2)}, r"^chunks=\(2, 2, 2\): no dataset that it matches in any of 3 files has as many axes"),
        ({"shards": {"/none": "1 KiB"}}, "shards='/none': matches nothing"),
    ],
    ids=str,
)
def test_what_applies_to_no_source_is_refused_before_the_first_write(
    options: dict[str, Any], message: str, sources: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        convert(sources, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_what_applies_to_one_source_is_no_failure_of_the_others(sources: list[Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"exclude": ["/log"], "chunks": {"/image": (3, 3), "*": (2,)}, "verify": True}
    report = convert(sources, tmp_path / "out", **options)
    assert (report.failed, report.exit_code) == ((), 0)
    stores: Any = [zarr.open_group(tmp_path / "out" / f"{name}.zarr", mode="r") for name in "abc"]
    assert [[*store] for store in stores] == [["image"], ["image"], ["events"]]
    assert [store["image"].chunks for store in stores[:2]] == [(3, 3)] * 2
    assert stores[2]["events/values"].chunks == (2,)
    again = convert(sources, tmp_path / "out", resume=True, **options)
    assert all("already complete" in item.summary() for item in again.conversions)
    assert again.summary().startswith("3 files already complete, 3 datasets; ")
    assert "in the stores; nothing written; " in again.summary()
    planned = convert(sources, tmp_path / "out", dry_run=True)
    assert planned.summary().startswith("0 of 3 files can be converted, 0 datasets; ")
    assert "3 files would be refused" in planned.summary()
    assert "refused: 3 files: this store exists; " in repr(planned)


def test_only_what_links_out_of_its_file_keeps_globs_that_match_nothing_in_it(
    sources: list[Path], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"exclude": ["/log"], "allow_external": [tmp_path]}
    assert convert(sources, tmp_path / "out", **options).exit_code == 0
    with pytest.raises(OptionError, match="exclude='/none': matches nothing in any of 3 files"):
        convert(sources, tmp_path / "none", exclude=["/none"], allow_external=[tmp_path])
    with h5py.File(sources[1], "a") as file:
        file["there"] = h5py.ExternalLink("a.h5", "/")
    report = convert(sources, tmp_path / "links", exclude=["/there/log"], allow_external=[tmp_path])
    assert report.failed == ()
    assert set(zarr.open_group(tmp_path / "links" / "b.zarr", mode="r")) == {"image", "there"}
    assert not (tmp_path / "links" / "b.zarr" / "there" / "log").exists()


def test_sources_that_are_no_list_are_refused_with_the_way_to_pass_them(sources: list[Path], tmp_path: Path) -> None:
    some: Any = (iter(sources), (path for path in sources), set(sources))
    for source in some:
        with pytest.raises(OptionError, match="give a path, or a list of paths to convert many files"):
            convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_source_that_has_nothing_of_what_is_included_fails_alone(sources: list[Path], tmp_path: Path) -> None:
    sources[1].write_bytes(b"damaged")
    report = convert(sources, tmp_path / "out", include=["/image", "/log"])
    assert [item.target for item in report.conversions] == [str(tmp_path / "out" / "a.zarr")]
    assert report.failed[0].error.endswith("b.h5: this is not an HDF5 file")
    assert "include='/image': matches nothing in" in report.failed[1].error
    assert not (tmp_path / "out" / "c.zarr").exists()
