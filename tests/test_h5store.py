"""H5Store in the hand: its reprs, key completion, attributes, dimensions, groups, and the error of a misspelled key."""

from __future__ import annotations

import re
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import dask
import h5py
import numpy as np
import pytest
import xarray as xr
from h5py import h5s, h5t

import h5bound
from h5bound import (
    DatasetNotFoundError,
    H5BoundError,
    H5Store,
    OptionError,
    SourceNotFoundError,
    TargetError,
    UnsafeSourceError,
)
from tests.conftest import open_objects
from tests.support import odd_files
from tests.support.entry_file import write_entry
from tests.support.html import CheckedHtml
from tests.support.recorder import Log, count_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with groups, named dimensions and attributes of many types."""
    path = tmp_path / "a.h5"
    with write_entry(path) as file:
        entry = file["entry"]
        entry["detector/counts"] = np.arange(5)
        entry["detector/<b>odd & name"] = ["a"]
        file["alias"] = h5py.SoftLink("/entry/detector")
        file["same"] = entry["detector/counts"]
    return path


def test_the_repr_is_a_line_for_each_dataset(path: Path) -> None:
    assert repr(H5Store(path)).splitlines() == [
        f"<H5Store of {path}: 3 groups, 4 datasets, 2 links",
        "  entry/detector/<b>odd & name  (1) text",
        "  entry/detector/counts         (5) int64",
        "  entry/temperature             (3, 40) float32 big-endian",
        "  entry/time                    (3) float64>",
    ]
    assert repr(H5Store(path)["entry/detector"]).startswith(
        f"<H5Store of {path}: /entry/detector: 1 group, 2 datasets\n"
    )


def test_the_html_is_a_tree_with_dimensions_and_units(path: Path) -> None:
    read = CheckedHtml(H5Store(path)._repr_html_())
    assert read.text == [
        f"H5Store {path}",
        "3 groups, 4 datasets, 2 links",
        "entry 1 group, 4 datasets 544 B",
        "temperature (time=3, x=40) float32 big-endian 480 B",
        "chunks 3 chunks of (1, 40)",
        "units K",
        "filters deflate 4",
        "time (time=3) float64 24 B",
        "layout contiguous",
        "detector 2 datasets 40 B",
        "<b>odd & name (1) text",
        "layout contiguous",
        "counts (5) int64 40 B",
        "layout contiguous",
    ]
    assert open_objects() == 0


def test_a_store_of_a_thousand_datasets_is_a_screen_and_50_kilobytes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(1000):
            made = file.create_dataset(f"{'long <name>' * 20}/{'x' * 90}{i}", (1 << 40, 3, 4), "f8", chunks=(64, 3, 4))
            made.attrs["units"] = "<q>" * 100
    store = H5Store(tmp_path / "a.h5")
    text, html = repr(store), store._repr_html_()
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines()[1:])) <= 80
    assert "… and 980 more" in text
    assert len(html.encode()) <= 50_000
    assert re.search(r"not shown: \d+ datasets", html)
    assert "1,000 datasets" in html
    assert "<name>" not in html
    assert "<q>" not in html


def test_the_html_of_a_file_that_is_gone_says_so(path: Path) -> None:
    store = H5Store(path)
    path.unlink()
    html = store._repr_html_()
    assert "no such file" in html
    assert "<bdi>temperature</bdi>" in html


def test_keys_complete_to_datasets_groups_and_links_that_are_followed(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["entry/outside"] = h5py.ExternalLink("b.h5", "/x")
    store = H5Store(path)
    assert store._ipython_key_completions_() == [
        "alias",
        "entry",
        "entry/detector",
        "entry/detector/<b>odd & name",
        "entry/detector/counts",
        "entry/temperature",
        "entry/time",
        "same",
    ]
    assert len(store) == len(list(store)) == 4
    assert "3 groups, 4 datasets, 3 links" in store._repr_html_()
    assert "entry/outside" in H5Store(path, allow_external=[path.parent])._ipython_key_completions_()
    assert "counts" in H5Store(path)["entry/detector"]._ipython_key_completions_()


# Groups.


def test_a_group_is_a_store_that_shares_the_open(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = H5Store(path, chunks={0: -1})
    assert store.groups() == ["entry", "entry/detector"]
    entry = store["entry"]
    assert isinstance(entry, H5Store)
    assert entry.groups() == ["detector"]
    assert list(entry) == ["detector/<b>odd & name", "detector/counts", "temperature", "time"]
    assert entry["temperature"].name == store["entry/temperature"].name
    assert entry["temperature"].chunksize == (3, 40)
    log = Log(tmp_path / "log")
    count_files(monkeypatch, log)
    assert dask.compute(entry["time"].sum(), store["entry/detector/counts"].sum()) == (3.0, 10)
    assert (log.count("open"), log.count("close")) == (1, 1)


def test_paths_with_a_slash_first_begin_at_the_root(path: Path) -> None:
    detector = H5Store(path)["entry"]["detector"]
    assert detector["counts"].name == detector["/entry/detector/counts"].name == detector["./counts"].name
    assert "/entry/time" in detector
    assert "entry/time" not in detector
    assert H5Store(path)["/"].groups() == H5Store(path).groups()


def test_groups_are_keys_that_iteration_does_not_yield(path: Path) -> None:
    store = H5Store(path)
    assert "entry" in store
    assert "entry" not in list(store)
    assert len(store) == len(list(store)) == 4
    assert isinstance(store.get("entry/detector"), H5Store)
    assert store.get("nothing") is None
    with h5py.File(path, "r+") as file:
        file.update(
            {"far": h5py.ExternalLink("none.h5", "/x"), "dangling": h5py.SoftLink("/x"), "type": np.dtype("i4")}
        )
    store = H5Store(path)
    assert [name for name in ("far", "dangling", "type", "alias", "alias/counts") if name in store] == [
        "alias",
        "alias/counts",
    ]


def test_a_group_behind_a_link_lists_all_below_it(path: Path) -> None:
    assert sorted(H5Store(path)["alias"]) == ["<b>odd & name", "counts"]
    assert H5Store(path)["alias"]["counts"].sum().compute() == 10
    assert "alias" in H5Store(path)
    with h5py.File(path, "r+") as file:
        file.create_group("links")["far"] = file["entry/time"]
    assert list(H5Store(path)["links"]) == ["far"], "its own name, though it has an earlier one elsewhere"


def test_a_group_of_another_file_is_a_store_of_that_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["group/x"] = np.arange(4)
        file["group/x"].attrs["units"] = "m"
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["far"] = h5py.ExternalLink("other.h5", "/group")
    store = H5Store(tmp_path / "a.h5", allow_external=[tmp_path])
    assert list(store["far"]) == ["x"]
    assert store["far"]["x"].sum().compute() == store["far/x"].sum().compute() == 6
    assert store.attrs("far/x") == {"units": "m"}
    with pytest.raises(UnsafeSourceError):
        H5Store(tmp_path / "a.h5")["far"]


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_an_open_group_is_a_store(path: Path, closed: bool) -> None:
    with h5py.File(path) as file:
        store = H5Store(file["entry"])
        if not closed:
            assert store["time"].sum().compute() == 3
            assert file
    assert sorted(store) == sorted(H5Store(path)["entry"])
    assert store["time"].name == H5Store(path)["entry/time"].name
    assert store["time"].sum().compute() == 3


def test_an_open_dataset_is_no_store(path: Path) -> None:
    with h5py.File(path) as file, pytest.raises(OptionError, match="from_hdf5"):
        H5Store(file["entry/time"])


# Attributes and dimensions.


def test_attributes_are_a_dictionary_of_plain_values(path: Path) -> None:
    store = H5Store(path)
    assert store.attrs("entry") == store["entry"].attrs() == {"title": "cooling"}
    assert store.attrs() == store.attrs("/") == {}
    assert store["entry"].attrs("temperature")["units"] == "K"
    assert open_objects() == 0


def write_attribute(file: h5py.File, tid: h5t.TypeID, value: Any) -> None:
    space = h5s.create(h5s.SCALAR)
    h5py.h5a.create(file.id, b"a", tid, space).write(np.asarray(value), tid)


ATTRIBUTES: dict[str, tuple[Any, object]] = {
    "text": ("grüße", "grüße"),
    "bytes": (np.bytes_("°C".encode()), "°C"),
    "latin": (np.bytes_(b"\xb0C"), "°C"),
    "texts": (["a", "bb"], ["a", "bb"]),
    "fixed": (np.array([[b"a", b"b"]]), [["a", "b"]]),
    "int": (np.int16(3), 3),
    "big-endian": (np.array([1, 2], ">i4"), [1, 2]),
    "bool": (True, True),
    "complex": (1 + 2j, 1 + 2j),
    "null": (h5py.Empty("f4"), None),
    "compound": (np.array((1, b"x"), [("n", "i4"), ("t", "S1")]), {"n": 1, "t": "x"}),
}


@pytest.mark.parametrize(("value", "expected"), ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_an_attribute_of_each_type_is_plain(tmp_path: Path, value: Any, expected: object) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["a"] = value
    found = H5Store(tmp_path / "a.h5").attrs()["a"]
    assert (found.tolist() if isinstance(found, np.ndarray) else found) == expected


def test_references_are_paths(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(3)
        file.attrs.create("one", file["x"].ref, dtype=h5py.ref_dtype)
        file.attrs.create("none", h5py.Reference(), dtype=h5py.ref_dtype)
        file.attrs.create("many", [file["x"].ref, file.ref], dtype=h5py.ref_dtype)
        file.attrs.create("region", file["x"].regionref[:2], dtype=h5py.regionref_dtype)
        rows = np.empty(1, object)
        rows[0] = np.array([1, 2], ">i4")
        file.attrs.create("rows", rows, dtype=h5py.vlen_dtype(">i4"))
    attributes = H5Store(tmp_path / "a.h5").attrs()
    (sequence,) = attributes.pop("rows")
    assert attributes == {
        "one": "/x",
        "none": "",
        "many": ["/x", "/"],
        "region": '{"path": "/x", "start": [0], "count": [2]}',
    }
    assert sequence.tolist() == [1, 2], "big-endian sequences too"


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["good"] = 1
        h5py.h5a.create(file.id, b"odd", h5t.vlen_create(h5t.STD_REF_DSETREG), h5s.create(h5s.SCALAR))
    attributes = H5Store(tmp_path / "a.h5").attrs()
    assert attributes["good"] == 1
    assert attributes["odd"].startswith("<cannot be read: ")


def test_dimensions_have_the_names_of_scales_and_labels(path: Path) -> None:
    store = H5Store(path)
    assert store.dims("entry/temperature") == ("time", "x")
    assert store["entry"].dims("time") == ("time",)
    assert store.dims("same") == (None,)
    with pytest.raises(DatasetNotFoundError, match="a group"):
        store.dims("entry")


# A key that is not there.


def short_error(call: Callable[[], object], kind: type[H5BoundError] = DatasetNotFoundError, most: int = 4) -> str:
    """Return the message of an error whose traceback has few steps, and no other one above it."""
    with pytest.raises(kind) as caught:
        call()
    lines = traceback.format_exception(caught.value)
    assert len(traceback.extract_tb(caught.value.__traceback__)) <= most, "".join(lines)
    assert sum(line.count("Traceback") for line in lines) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("entry/temprature", "similar names: 'entry/temperature'$"),
        ("temperature", "similar names: 'entry/temperature'$"),
        ("counts", "similar names: 'entry/detector/counts'$"),
        ("entri", "similar names: 'entry'"),
        ("nothing/like/it", "its group holds 'alias', 'entry', 'same'"),
        ("entry/time/wavelength", "is not a group"),
    ],
)
def test_a_misspelled_key_is_a_short_error_with_short_error(path: Path, name: str, close: str) -> None:
    store = H5Store(path)
    for call in (lambda: store[name], lambda: store.attrs(name), lambda: store.dims(name)):
        message = short_error(call)
        assert re.search(close, message), message
        assert "a.h5" in message
    assert name not in store


def test_at_most_three_names_are_suggested(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(50):
            file[f"group{i}/counts"] = i
    message = short_error(lambda: H5Store(tmp_path / "a.h5")["counts"])
    assert message.count("/counts") == 3


def test_the_error_of_an_array_is_short_too(path: Path) -> None:
    assert "'temperature'" in short_error(lambda: h5bound.from_hdf5(path, "entry/temprature"))
    assert "paths" in short_error(lambda: H5Store(path)[3])  # type: ignore[index]
    assert "paths" in short_error(lambda: H5Store(path).attrs(3))  # type: ignore[arg-type]
    with pytest.raises(SourceNotFoundError):
        H5Store(path.with_name("none.h5"))


@pytest.mark.parametrize(
    "make",
    [odd_files.write_odd_names, odd_files.write_unreadable_types, odd_files.write_damaged_object],
)
def test_reprs_of_odd_files_show_all_datasets(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "a.h5")
    store = H5Store(tmp_path / "a.h5")
    assert len(repr(store).splitlines()) == len(store) + 1
    lines = CheckedHtml(store._repr_html_()).text
    assert sum(line.startswith(("chunks ", "layout ")) for line in lines) == len(store)


def test_no_public_function_buries_the_message_of_an_error(path: Path, tmp_path: Path) -> None:
    text, missing, store = tmp_path / "a.txt", tmp_path / "no.h5", tmp_path / "a.zarr"
    text.write_text("no HDF5")
    for call in (partial(h5bound.from_hdf5, name="x"), H5Store, partial(h5bound.convert, target=store)):
        assert "no such file" in short_error(partial(call, missing), SourceNotFoundError)
        assert "not an HDF5 file" in short_error(partial(call, text), H5BoundError)
    engine = partial(xr.open_dataset, engine="h5bound")
    assert "no such file" in short_error(partial(engine, missing), SourceNotFoundError, most=5)
    assert "no Zarr store" in short_error(partial(h5bound.verify, path, store), TargetError)
    for call in (partial(h5bound.from_hdf5, name="entry/temperature"), partial(h5bound.convert, target=store)):
        assert "chunks='x'" in short_error(partial(call, path, chunks="x"), OptionError)


def test_the_steps_to_an_error_are_kept_for_who_looks_for_details(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", "h5bound"), pytest.raises(SourceNotFoundError) as caught:
        H5Store(tmp_path / "no.h5")
    assert len(traceback.extract_tb(caught.value.__traceback__)) > 4
