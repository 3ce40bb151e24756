"""Every kind of difference between a store and its source is found, and nothing else."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import h5py
import numpy as np
import pytest
import zarr
from distributed import Client

from h5bound import convert, verify
from h5bound.codecs.chunk_decoder import Decoder
from h5bound.errors import TargetError
from h5bound.execution.run import run_units
from h5bound.stores.metadata import digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Change = Callable[[Path], object]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file with some of everything."""
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
    """Return its store, without compression so that bytes can be changed."""
    path = source.with_suffix(".zarr")
    convert(source, path, codecs="none")
    return path


def edit(name: str, change: Callable[[Any], object], file: str = "zarr.json") -> Change:
    def apply(target: Path) -> None:
        path = target / name / file
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


def edit_copy(name: str, change: Callable[[Any], object]) -> Change:
    """Return a change of only the metadata that zarr and xarray read by default."""
    return edit("", lambda doc: change(doc["consolidated_metadata"]["metadata"][name]))


def write(name: str, data: bytes) -> Change:
    return lambda target: (target / name).write_bytes(data)


def leave_out(name: str) -> Change:
    """Return a change that deletes an array and its copy, and reports the array as unreadable."""

    def change(doc: Any) -> None:
        del doc["consolidated_metadata"]["metadata"][name]

    def apply(target: Path) -> None:
        shutil.rmtree(target / name)
        edit("", change)(target)
        edit_own(lambda doc: doc["skipped"].append({"path": f"/{name}", "reason": "it cannot be read"}))(target)
        edit_own(lambda doc: doc["documents"].pop(f"{name}/zarr.json"))(target)
        root = digest(json.loads((target / "zarr.json").read_text()))
        edit_own(lambda doc: doc["documents"].update({"zarr.json": root}))(target)

    return apply


def edit_own(change: Callable[[Any], object]) -> Change:
    """Return a change of the document with the provenance."""
    return edit("", change, "h5bound.json")


def remove(name: str) -> Change:
    return lambda target: (target / name).unlink()


NUMBERS = {"name": "bytes", "configuration": {"endian": "little"}}

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
    "an attribute": (edit("group/x", lambda doc: doc["attributes"].update(units="s")), "attribute 'units' of /group/x"),
    "an attribute too many": (edit("group", lambda doc: doc["attributes"].update(n=1)), "attribute 'n' of /group"),
    "an attribute too few": (edit("", lambda doc: doc["attributes"].pop("title")), "attribute 'title' of /"),
    "a link": (edit_own(lambda doc: doc["details"][""].pop("links")), "/: 'links' in the details differs"),
    "the type of an attribute": (
        edit_own(lambda doc: doc["details"]["group/x"].pop("attributes")),
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
    "a key outside the grid": (
        write("group/x/c/30", b"\0"),
        "/group/x: 1 key outside its grid of chunks: group/x/c/30",
    ),
    "a key spelled otherwise": (write("group/x/c/01", b"\0"), "/group/x: 1 key outside its grid of chunks"),
    "a key of no node": (write("group/0", b"\0"), "/: 1 key of no node: group/0"),
    "an attribute of the values of sequences": (
        edit("sequences/values", lambda doc: doc["attributes"].update(scale_factor=10)),
        "attribute 'scale_factor' of /sequences: added to sequences/values",
    ),
    "a detail too many": (edit_own(lambda doc: doc["details"].update({"text": {"n": 1}})), "/text: 'n' in the details"),
    "a type of text": (
        edit("text", lambda doc: doc.update(data_type="float64", fill_value=0.0, codecs=[NUMBERS])),
        "/text: type float64",
    ),
    "an array that is said to be left out": (leave_out("sparse"), "/sparse: skipped as unreadable"),
    "sequences that are said to be left out": (
        edit_own(lambda doc: doc["skipped"].append({"path": "/sequences", "reason": "odd"})),
        "/sequences: listed as skipped, but the source has nothing to skip here: odd",
    ),
    "a copied fill value": (
        edit_copy("sparse", lambda doc: doc.update(fill_value=4)),
        "/sparse: the copy of sparse in the consolidated metadata of zarr.json has other fill_value",
    ),
    "a copied shape": (
        edit_copy("group/x", lambda doc: doc.update(shape=[19])),
        "/group/x: the copy of group/x in the consolidated metadata of zarr.json has other shape",
    ),
    "a copied attribute": (
        edit_copy("group/x", lambda doc: doc["attributes"].update(units="s")),
        "/group/x: the copy of group/x in the consolidated metadata of zarr.json has other attributes",
    ),
    "a copied number of another type": (
        edit_copy("sparse", lambda doc: doc.update(fill_value=3.0)),
        "/sparse: the copy of sparse in the consolidated metadata of zarr.json has other fill_value",
    ),
    "a copy that is gone": (
        edit("", lambda doc: doc["consolidated_metadata"]["metadata"].pop("text")),
        "/text: text is not in the consolidated metadata",
    ),
    "a copy of nothing": (
        edit("", lambda doc: doc["consolidated_metadata"]["metadata"].update(more={"node_type": "group"})),
        "/more: more is in the consolidated metadata of zarr.json, and not in the store",
    ),
    "copies of a group inside": (
        edit("group", lambda doc: doc.update(consolidated_metadata={"metadata": {}})),
        "/group/x: x is not in the consolidated metadata of group/zarr.json",
    ),
    "no copies": (edit("", lambda doc: doc.pop("consolidated_metadata")), "/: zarr.json has no consolidated metadata"),
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
    "an attribute": (lambda file: file.attrs.modify("title", "u"), "attribute 'title' of /"),
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
    (target / "h5bound.json").unlink()
    with pytest.raises(TargetError, match="not a store that h5bound wrote"):
        verify(source, target)


CHANGES_V2: dict[str, tuple[Change, str]] = {
    "no copies": (remove(".zmetadata"), "/: .zmetadata has no consolidated metadata"),
    "a copied attribute": (
        edit("", lambda doc: doc["metadata"]["group/x/.zattrs"].update(units="s"), ".zmetadata"),
        "/group/x: the copy of group/x/.zattrs in the consolidated metadata of .zmetadata has other units",
    ),
    "a copy that is gone": (
        edit("", lambda doc: doc["metadata"].pop("text/.zarray"), ".zmetadata"),
        "/text: text/.zarray is not in the consolidated metadata",
    ),
    "a fill value where there was none": (
        edit("group/x", lambda doc: doc.update(fill_value=7), ".zarray"),
        "/group/x: fill value 7 in the store, None in the source",
    ),
    "a fill value that is gone": (
        edit("threes", lambda doc: doc.update(fill_value=None), ".zarray"),
        "/threes: fill value None in the store, 3 in the source",
    ),
    "a NaN to fill with that is gone": (
        edit("gaps", lambda doc: doc.update(fill_value=None), ".zarray"),
        "/gaps: fill value None in the store, 'NaN' in the source",
    ),
    "a key outside the grid": (write("group/x/30", b"\0"), "/group/x: 1 key outside its grid of chunks: group/x/30"),
    "a document of format 3": (write("group/zarr.json", b"{}"), "/: 1 key of no node: group/zarr.json"),
    "two kinds of node in one": (
        write("text/.zgroup", b'{"zarr_format": 2}'),
        "/text: 1 key outside its grid of chunks: text/.zgroup",
    ),
}


@pytest.mark.parametrize("name", CHANGES_V2)
def test_every_change_of_a_store_of_format_2_is_found(name: str, source: Path, tmp_path: Path) -> None:
    with h5py.File(source, "r+") as file:
        file.create_dataset("gaps", (20_004,), "<f8", chunks=(2,), fillvalue=np.nan)[:2] = 1
        file.create_dataset("threes", (20_004,), "<i4", chunks=(2,), fillvalue=3)[:2] = 1
    target = tmp_path / "b.zarr"
    convert(source, target, zarr_format=2)
    assert verify(source, target).equal
    change, what = CHANGES_V2[name]
    change(target)
    report = verify(source, target)
    assert any(what in str(item) for item in report.differences), report


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"zarr_format": 2},
        {"shards": {"/group/x": (12,)}},
        {"codecs": "gzip"},
        {"codecs": "zstd"},
        {"codecs": "blosc-lz4"},
    ],
    ids=str,
)
def test_a_damaged_chunk_is_one_difference_and_the_rest_is_compared(
    options: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "b.zarr"
    convert(source, target, **options)
    key = "1" if options.get("zarr_format") == 2 else "c/1"
    path = target / "group/x" / key
    data = path.read_bytes()
    path.write_bytes(data[:3] + bytes(9) + data[12:])
    report = verify(source, target)
    (found,) = report.differences
    assert str(found).startswith(f"/group/x: the store cannot be read: group/x/{key}: ")
    assert report.arrays == 4


@pytest.mark.parametrize("array", ["values", "offsets"])
def test_a_damaged_chunk_of_sequences_is_named(array: str, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.zarr"
    convert(source, target, codecs="gzip")
    (target / "sequences" / array / "c/0").write_bytes(b"no gzip")
    (found,) = verify(source, target).differences
    assert str(found).startswith(f"/sequences: the store cannot be read: sequences/{array}/c/0")


def test_each_place_that_differs_is_counted(source: Path, target: Path) -> None:
    for key in "012":
        flip(f"group/x/c/{key}")(target)
    (found,) = verify(source, target).differences
    assert found.what == "values differ in [0:6], and in 2 more places"


def spoil(*names: str) -> Callable[[Any], object]:
    def change(doc: Any) -> None:
        for name in names[:-1]:
            doc = doc[name]
        doc[names[-1]] = 5

    return change


SPOILED = "the provenance in h5bound.json"
RUBBISH: dict[str, tuple[Change, str]] = {
    "no JSON": (write("zarr.json", b"{"), "zarr.json"),
    "no object": (write("zarr.json", b"[]"), "zarr.json"),
    "attributes": (edit("", spoil("attributes")), "zarr.json"),
    **{
        f"{name} of the provenance": (edit_own(spoil(name)), SPOILED)
        for name in ("version", "settings", "limits", "details", "skipped", "documents", "written")
    },
    "no version": (edit_own(lambda doc: doc.pop("version")), SPOILED),
    "a codec of the provenance": (edit_own(spoil("settings", "codecs")), SPOILED),
    "a limit of the provenance": (edit_own(spoil("limits", "more")), SPOILED),
    "an entry of the provenance": (edit_own(lambda doc: doc["skipped"].append({"path": "/a"})), SPOILED),
    "no JSON in the provenance": (write("h5bound.json", b"{"), SPOILED),
    "no object in the provenance": (write("h5bound.json", b"[1]"), SPOILED),
    "no JSON inside": (write("group/x/zarr.json", b"\xff"), "group/x/zarr.json"),
    "no node": (edit("group/x", spoil("node_type")), "group/x/zarr.json"),
    "no data type": (edit("group/x", spoil("data_type")), "group/x/zarr.json"),
    "no codec": (edit("group/x", lambda doc: doc.update(codecs=[{"name": "none-such"}])), "group/x/zarr.json"),
    "no format": (edit("group", lambda doc: doc.pop("zarr_format")), "group/zarr.json"),
    "another format": (edit("group/x", lambda doc: doc.update(zarr_format=2)), "group/x/zarr.json"),
    "no attributes inside": (edit("group", spoil("attributes")), "group/zarr.json"),
    "no copies": (edit("", spoil("consolidated_metadata")), "zarr.json"),
}


@pytest.mark.parametrize("name", RUBBISH)
def test_a_damaged_document_is_named(name: str, source: Path, target: Path) -> None:
    change, what = RUBBISH[name]
    change(target)
    with pytest.raises(TargetError) as caught:
        verify(source, target)
    assert what in str(caught.value)


def test_what_cannot_be_read_is_rightly_left_out(tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        made = file.create_dataset("bad", data=np.arange(100), chunks=(50,), compression="gzip")
        at = made.id.get_chunk_info(1).byte_offset
        file["good"] = 1
    flip_source(source, at)
    convert(source, target, codecs="zstd", on_unsupported="skip")
    report = verify(source, target)
    assert report.equal
    assert [item.path for item in report.skipped] == ["/bad"]
    flip_source(source, at)
    (found,) = verify(source, target).differences
    assert found.path == "/bad"
    assert "but it can be read" in found.what


def flip_source(source: Path, at: int) -> None:
    data = bytearray(source.read_bytes())
    data[at] ^= 255
    source.write_bytes(data)


def test_convert_verifies_with_its_own_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["h5bound._verify"]  # the package has the function under that name
    used: list[tuple[Any, ...]] = []
    told: list[tuple[int, int]] = []

    def spy(*args: Any, **options: Any) -> Any:
        used.append((options["window"], options["workers"], options["scheduler"]))
        return run_units(*args, **options)

    monkeypatch.setattr(module, "run_units", spy)
    (tmp_path / "in").mkdir()
    with h5py.File(tmp_path / "in" / "b.h5", "w") as file:
        file["y"] = np.arange(100)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["there"] = h5py.ExternalLink(str(tmp_path / "in" / "b.h5"), "/y")
    options: dict[str, Any] = {"window": 400, "workers": 1, "scheduler": None, "allow_external": [tmp_path / "in"]}
    report = convert(
        tmp_path / "a.h5", tmp_path / "a.zarr", verify=True, progress=lambda *at: told.append(at), **options
    )
    assert report.verification is not None
    assert report.verification.equal
    assert used == [(400, 1, None)]
    assert (800, 1600) in told
    assert told[-1] == (1600, 1600)
    assert told == sorted(told)
    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as client:
        options["scheduler"] = client.scheduler.address
        report = convert(tmp_path / "a.h5", tmp_path / "b.zarr", verify=True, **options)
    assert report.exit_code == 0
    assert used[-1] == (400, 1, options["scheduler"])


@pytest.mark.slow
def test_what_is_sent_to_workers_does_not_grow_with_the_number_of_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def spy(work: Any, jobs: Any, units: Any, **options: Any) -> Any:
        sizes.append([len(pickle.dumps(job)) for job in jobs])
        return run_units(work, jobs, units, **options)

    monkeypatch.setattr(sys.modules["h5bound._verify"], "run_units", spy)
    for count in (10, 1000):
        source, target = tmp_path / f"{count}.h5", tmp_path / f"{count}.zarr"
        with h5py.File(source, "w") as file:
            file.create_dataset("x", data=np.arange(count), chunks=(1,))
        convert(source, target, shards=(count,))
        assert verify(source, target).equal
    ((small,), (large,)) = sizes
    assert large < small + 200


def test_a_fault_that_conversion_and_verification_have_in_common_is_found(tmp_path: Path) -> None:
    values = np.arange(2000, dtype="<i4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(500,), compression="gzip")
        file.create_dataset("y", data=values)

    def decode_wrong(self: Decoder, stored: Any, out: Any, mask: int = 0) -> None:
        decode(self, stored, out, mask)
        out[0] ^= 1

    decode = Decoder.decode
    with patch.object(Decoder, "decode", decode_wrong):
        convert(tmp_path / "a.h5", tmp_path / "a.zarr", codecs="zstd:1")
        report = verify(tmp_path / "a.h5", tmp_path / "a.zarr")
    assert [str(item) for item in report.differences] == ["/x: values differ in [0:500], and in 3 more places"]


@pytest.mark.parametrize("shards", [None, (4,)])
def test_a_wrong_fill_value_that_both_take_for_right_is_found(tmp_path: Path, shards: tuple[int, ...] | None) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (10,), "<i4", chunks=(2,), fillvalue=7)[4:6] = 1
        file.create_dataset("full", data=np.arange(10), chunks=(2,))
        file.create_dataset("pairs", (3,), np.dtype([("a", "i4"), ("b", "S2")]), chunks=(1,))

    def see_zeros(dataset: h5py.Dataset) -> Any:
        return np.zeros((), dataset.dtype)

    with patch("h5bound.planning.scan_fill.read_shown_fill", see_zeros):
        convert(tmp_path / "a.h5", tmp_path / "a.zarr", shards=shards)
        report = verify(tmp_path / "a.h5", tmp_path / "a.zarr")
    inside = [] if shards is None else ["/x: values differ in [4:8]"]
    assert [str(item) for item in report.differences] == [
        "/x: chunks that were never written differ, as in [0:1]",
        *inside,
    ]


def test_a_chunk_that_is_gone_from_an_array_without_a_fill_value_is_found(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.zeros(10), chunks=(5,))
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", zarr_format=2)
    assert verify(tmp_path / "a.h5", tmp_path / "a.zarr").equal
    (tmp_path / "a.zarr/x/1").unlink()
    report = verify(tmp_path / "a.h5", tmp_path / "a.zarr")
    assert [str(item) for item in report.differences] == ["/x: 1 chunk missing, and there is no fill value for them"]


def test_arrays_of_sequences_are_compared_in_several_units(tmp_path: Path) -> None:
    values = np.empty((40, 4), object)
    for i in range(values.size):
        values.flat[i] = np.arange(i, i + i % 7, dtype="i4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (40,), np.dtype((h5py.vlen_dtype(np.dtype("i4")), (4,))))[...] = values
    convert(tmp_path / "a.h5", tmp_path / "a.zarr")
    assert verify(tmp_path / "a.h5", tmp_path / "a.zarr", window=4096).equal
    offsets: Any = zarr.open_array(tmp_path / "a.zarr/x/offsets")
    offsets[150] += 1
    report = verify(tmp_path / "a.h5", tmp_path / "a.zarr", window=4096)
    assert [str(item) for item in report.differences] == ["/x: lengths of the sequences from 149 on differ"]


def test_a_bool_without_axes_is_true_for_any_byte_but_0(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["odd"], file["no"] = True, False
        h5py.h5d.open(file.id, b"odd").write(
            h5py.h5s.ALL, h5py.h5s.ALL, np.array(0x5A, "u1").view("V1"), file["odd"].id.get_type()
        )
    convert(tmp_path / "a.h5", tmp_path / "a.zarr")
    assert verify(tmp_path / "a.h5", tmp_path / "a.zarr").equal
    zarr.open_array(tmp_path / "a.zarr" / "odd")[...] = False
    zarr.open_array(tmp_path / "a.zarr" / "no")[...] = True
    assert [item.path for item in verify(tmp_path / "a.h5", tmp_path / "a.zarr").differences] == ["/no", "/odd"]
