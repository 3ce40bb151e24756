"""Every kind of difference between a store and its source is found, and nothing else."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from h5bound.convert import convert
from h5bound.errors import TargetError
from h5bound.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Change = Callable[[Path], object]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give a file with a bit of everything."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("group/x", data=np.arange(20.0), chunks=(6,), compression="gzip", shuffle=True)
        made.attrs["units"] = "m"
        made.attrs["gain"] = np.float32(1.5)
        file.create_dataset("sparse", (10,), "<i4", chunks=(5,), fillvalue=3)[:5] = 1
        file["text"] = ["a", "b"]
        made = file.create_dataset("sequences", (2,), h5py.vlen_dtype(np.dtype("i4")))
        made[0], made[1] = [1, 2], [3]
        file["link"] = file["group/x"]
        file.attrs["title"] = "t"
    return path


@pytest.fixture
def target(source: Path) -> Path:
    """Give its store, without compression so that bytes can be changed."""
    path = source.with_suffix(".zarr")
    convert(source, path, codecs="none")
    return path


def edit(name: str, change: Callable[[Any], object]) -> Change:
    def apply(target: Path) -> None:
        path = target / name / "zarr.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return apply


def flip(name: str, at: int = 0) -> Change:
    def apply(target: Path) -> None:
        path = target / name
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    return apply


def remove(name: str) -> Change:
    return lambda target: (target / name).unlink()


CHANGES: dict[str, tuple[Change, str]] = {
    "one bit of a value": (flip("group/x/c/1", 3), "/group/x: values differ in [6:12]"),
    "a chunk that is gone": (remove("group/x/c/2"), "/group/x: values differ in [12:18]"),
    "a chunk of less than it should be": (
        lambda target: (target / "group/x/c/0").write_bytes(b"\0"),
        "/group/x: the store cannot be read",
    ),
    "a chunk that should not be there": (
        lambda target: (target / "sparse/c/1").write_bytes(bytes(20)),
        "/sparse: values differ in [5:10]",
    ),
    "a fill value": (edit("sparse", lambda doc: doc.update(fill_value=4)), "/sparse: fill value"),
    "a string": (flip("text/c/0", -1), "/text: values differ"),
    "an element of a sequence": (flip("sequences/values/c/0"), "/sequences: values of the sequences"),
    "the length of a sequence": (flip("sequences/offsets/c/0", 8), "/sequences: lengths of the sequences"),
    "an attribute": (edit("group/x", lambda doc: doc["attributes"].update(units="s")), "/group/x: attribute 'units'"),
    "an attribute too many": (edit("group", lambda doc: doc["attributes"].update(n=1)), "/group attribute 'n'"),
    "an attribute too few": (edit("", lambda doc: doc["attributes"].pop("title")), "/: attribute 'title'"),
    "a link": (edit("", lambda doc: doc["attributes"].pop("_LINKS")), "'_LINKS'"),
    "the type of an attribute": (
        edit("", lambda doc: doc["attributes"]["_h5bound"]["details"]["group/x"].pop("attributes")),
        "/group/x: 'attributes' in the details differs",
    ),
    "a dimension name": (edit("group/x", lambda doc: doc.update(dimension_names=["t"])), "/group/x: dimension names"),
    "a shape": (edit("group/x", lambda doc: doc.update(shape=[21])), "/group/x: shape"),
    "a type": (edit("sparse", lambda doc: doc.update(data_type="uint32")), "/sparse: type"),
    "an array that is gone": (remove("text/zarr.json"), "/text: not in the store"),
    "a group that is gone": (remove("group/zarr.json"), "/group: not a group in the store"),
    "a node too many": (
        lambda target: shutil.copytree(target / "group", target / "more"),
        "/more: in the store, and not in the source",
    ),
}


def test_a_store_as_it_was_written_is_equal(source: Path, target: Path) -> None:
    report = verify(source, target)
    assert report.equal
    assert report.arrays == 4
    assert report.attributes == 3
    assert report.nbytes > 160


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_of_the_store_is_found(name: str, source: Path, target: Path) -> None:
    change, what = CHANGES[name]
    change(target)
    report = verify(source, target)
    assert not report.equal
    assert any(what in str(item) for item in report.differences), report


def nudge(file: h5py.File) -> None:
    file["group/x"][0] = np.nextafter(0, 1)


def add(file: h5py.File) -> None:
    file["new"] = 1


SOURCE_CHANGES: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "a value": (nudge, "/group/x: values differ"),
    "a dataset": (add, "/new: not in the store"),
    "an attribute": (lambda file: file.attrs.modify("title", "u"), "/: attribute 'title'"),
    "a dataset too few": (lambda file: file.pop("text"), "/text: in the store"),
}


@pytest.mark.parametrize("name", SOURCE_CHANGES)
def test_every_change_of_the_source_is_found(name: str, source: Path, target: Path) -> None:
    change, what = SOURCE_CHANGES[name]
    with h5py.File(source, "r+") as file:
        change(file)
    report = verify(source, target)
    assert any(what in str(item) for item in report.differences), report


def test_a_nan_with_another_payload_is_a_difference(tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        file["x"] = np.array([np.nan])
    convert(source, target, codecs="none")
    assert verify(source, target).equal
    flip("x/c/0")(target)
    assert not verify(source, target).equal


@pytest.mark.parametrize("window", [64, "1 KiB", None])
def test_the_window_changes_nothing_but_the_number_of_opens(window: Any, source: Path, target: Path) -> None:
    assert verify(source, target, window=window, workers=2).equal


def test_what_is_no_complete_store_of_h5bound_is_refused(source: Path, target: Path, tmp_path: Path) -> None:
    import zarr

    with pytest.raises(TargetError, match="no Zarr store"):
        verify(source, tmp_path / "none.zarr")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(TargetError, match="not a store that h5bound wrote"):
        verify(source, tmp_path / "other.zarr")
    edit("", lambda doc: doc["attributes"]["_h5bound"].pop("complete"))(target)
    with pytest.raises(TargetError):
        verify(source, target)
