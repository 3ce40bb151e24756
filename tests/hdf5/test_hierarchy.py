"""The hierarchy holds what h5py finds; reading it opens no other file and ends on any file."""

from __future__ import annotations

import io
import pickle
import sys
import time
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr
from h5py import h5z

from h5bound import convert
from h5bound import h5py_compat as library
from h5bound.codecs.pipeline import Filter
from h5bound.errors import DatasetNotFoundError, UnsafeSourceError, UnsupportedError
from h5bound.h5py_compat import describe
from h5bound.hdf5.dataset import DatasetRecord, read_dataset, read_edge_unfiltered, read_filters
from h5bound.hdf5.hierarchy import read_hierarchy
from h5bound.hdf5.links import LinkRecord, open_object
from tests.support.odd_files import (
    ODD_FILES,
    record_opens,
    write_committed_type,
    write_damaged_object,
    write_deep,
    write_edge_unfiltered,
    write_external_links,
    write_external_storage,
    write_hard_links,
    write_huge_array_index,
    write_huge_grid,
    write_layouts,
    write_many,
    write_odd_names,
    write_soft_links,
    write_unreachable_links,
    write_unreadable_types,
    write_user_link,
    write_virtual,
)

if TYPE_CHECKING:
    from pathlib import Path

    from h5bound.hdf5 import hierarchy as index

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which files are opened")

BEYOND_VISITITEMS = {"damaged_object", "deep", "unreachable_links", "unreadable_types"}


def index_of(path: Path) -> index.Hierarchy:
    with h5py.File(path) as file:
        return read_hierarchy(file)


def datasets_of(path: Path) -> dict[str, DatasetRecord]:
    return {dataset.path: dataset for dataset in index_of(path).datasets}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "odd.h5"


@pytest.mark.parametrize("odd", sorted(ODD_FILES.keys() - BEYOND_VISITITEMS))
def test_the_index_has_the_objects_that_visititems_finds(path: Path, odd: str) -> None:
    ODD_FILES[odd](path)
    found: dict[str, type] = {}
    with h5py.File(path) as file:
        records = read_hierarchy(file)
        file.visititems(lambda name, item: found.update({f"/{name}": type(item)}))
    assert list(records.groups[1:]) == [p for p in found if found[p] is h5py.Group]
    assert [dataset.path for dataset in records.datasets] == [p for p in found if found[p] is h5py.Dataset]
    assert list(records.committed_types) == [p for p in found if found[p] is h5py.Datatype]
    assert records.problems == ()


def test_shapes_types_and_chunks_are_those_of_h5py(path: Path) -> None:
    write_layouts(path)
    with h5py.File(path) as file:
        records = read_hierarchy(file).datasets
        assert {record.layout for record in records} >= {"chunked", "compact", "contiguous"}
        for record in records:
            dataset = file[record.path]
            assert (record.shape, record.dtype, record.chunks) == (
                dataset.shape,
                dataset.dtype,
                dataset.chunks,
            )
            assert record.stored_nbytes == dataset.id.get_storage_size()
            assert (record.problem, record.external_files) == (None, ())
            assert read_dataset(dataset) == record


@pytest.mark.parametrize(
    ("name", "layout", "stored_chunks", "stored_nbytes"),
    [
        pytest.param("contiguous", "contiguous", 0, 40, id="contiguous"),
        pytest.param("never_written", "contiguous", 0, 0, id="never written"),
        pytest.param("chunked", "chunked", 3, None, id="chunked"),
        pytest.param("sparse", "chunked", 1, 40, id="one chunk of ten"),
        pytest.param("bigger_chunk", "chunked", 1, 32, id="chunk larger than the dataset"),
        pytest.param("zero_size", "chunked", 0, 0, id="zero size"),
        pytest.param("scalar", "contiguous", 0, 8, id="scalar"),
        pytest.param("null", "contiguous", 0, 0, id="null dataspace"),
        pytest.param("compact", "compact", 0, 20, id="compact"),
    ],
)
def test_a_layout_is_told_by_the_creation_properties(
    path: Path, name: str, layout: str, stored_chunks: int, stored_nbytes: int | None
) -> None:
    write_layouts(path)
    record = datasets_of(path)[f"/{name}"]
    assert (record.layout, record.stored_chunks) == (layout, stored_chunks)
    assert stored_nbytes in (None, record.stored_nbytes)


def test_filters_are_in_the_order_of_writing_with_all_their_options(path: Path) -> None:
    with h5py.File(path, "w") as file:
        usual = file.create_dataset(
            "usual", (10,), "i4", chunks=(5,), compression="gzip", shuffle=True, fletcher32=True
        )
        scaled = file.create_dataset("scaled", (10,), "i4", chunks=(5,), scaleoffset=0)
        plain = file.create_dataset("plain", (10,), "i4")
        assert read_filters(usual.id) == (
            Filter(h5z.FILTER_SHUFFLE, 1, (4,), "shuffle"),
            Filter(h5z.FILTER_DEFLATE, 1, (4,), "deflate"),
            Filter(h5z.FILTER_FLETCHER32, 0, (), "fletcher32"),
        )
        assert len(read_filters(scaled.id)[0].options) == 20
        assert read_filters(plain.id) == ()


def test_hard_links_and_cycles_lead_to_the_first_path(path: Path) -> None:
    write_hard_links(path)
    records = index_of(path)
    assert records.groups == ("/", "/b", "/b/c")
    assert [dataset.path for dataset in records.datasets] == ["/a"]
    assert records.links == (
        LinkRecord("/b/c/again", "hard", "/a"),
        LinkRecord("/b/c/up", "hard", "/b"),
        LinkRecord("/b/data", "hard", "/a"),
        LinkRecord("/b/root", "hard", "/"),
    )


def test_soft_links_are_recorded_as_stored_dangling_ones_too(path: Path) -> None:
    write_soft_links(path)
    links = {link.path: link.to for link in index_of(path).links if link.kind == "soft"}
    assert len(links) == 8
    assert (links["/relative"], links["/dangling"]) == ("entry/data", "/entry/none")


def test_external_and_user_defined_links_are_recorded(tmp_path: Path) -> None:
    write_external_links(tmp_path / "external.h5")
    write_user_link(tmp_path / "user.h5")
    assert LinkRecord("/there", "external", "other.h5:/secret", "other.h5") in index_of(tmp_path / "external.h5").links
    assert index_of(tmp_path / "user.h5").links == (LinkRecord("/odd_link", "user", "class 187"),)


def test_a_committed_type_is_noted_and_its_datasets_are_resolved(path: Path) -> None:
    write_committed_type(path)
    records = index_of(path)
    assert records.committed_types == ("/mytype",)
    assert records.datasets[0].dtype == np.dtype([("x", "f4"), ("y", "i2")])


def test_names_keep_all_their_bytes(path: Path) -> None:
    write_odd_names(path)
    records = index_of(path)
    assert LinkRecord("/caf\udce9", "soft", "/A") in records.links
    assert {"/..", "/a\\b", "/line\nbreak", f"/{'x' * 300}"} <= {dataset.path for dataset in records.datasets}
    with h5py.File(path) as file:
        assert open_object(file, "caf\udce9") == file["A"]
        assert open_object(file, "..") == file[".."]


def test_a_type_that_h5py_lacks_is_that_of_its_bytes(path: Path) -> None:
    write_unreadable_types(path)
    found = datasets_of(path)
    assert {name: (found[name].dtype, found[name].problem) for name in ("/time", "/wide")} == {
        "/time": (np.dtype("V4"), None),
        "/wide": (np.dtype("V16"), None),
    }
    assert found["/name"].dtype is None
    assert "a member name that is not UTF-8" in str(found["/name"].problem)
    assert found["/good"].problem is None


def test_an_object_that_cannot_be_opened_does_not_stop_the_walk(path: Path) -> None:
    write_damaged_object(path)
    records = index_of(path)
    assert [dataset.path for dataset in records.datasets] == ["/good"]
    assert [where for where, _ in records.problems] == ["/bad"]
    with (
        h5py.File(path) as file,
        pytest.raises(UnsupportedError, match=r"'bad' in .*odd\.h5: h5py cannot open it"),
    ):
        open_object(file, "bad")


def test_a_file_whose_root_cannot_be_read_is_refused(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = 1
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"TREE") : raw.index(b"TREE") + 4] = b"FREE"
    path.write_bytes(raw)
    with (
        h5py.File(path) as file,
        pytest.raises(UnsupportedError, match=r"odd\.h5: the root group cannot be read"),
    ):
        read_hierarchy(file)


def test_links_that_no_path_can_reach_are_problems_and_are_not_opened(path: Path) -> None:
    write_unreachable_links(path)
    records = index_of(path)
    assert list(records.groups) == ["/", "/c1"]
    assert [where for where, _ in records.problems] == ["/", "/.", "/a/b"]


@on_linux
@pytest.mark.parametrize("odd", ["external_links", "external_storage", "virtual"])
def test_no_other_file_is_opened(path: Path, odd: str) -> None:
    ODD_FILES[odd](path)
    with record_opens(path.parent) as opened, h5py.File(path) as file:
        read_hierarchy(file)
        for link in ("there", "behind", "there/data"):
            with pytest.raises((UnsafeSourceError, DatasetNotFoundError)):
                open_object(file, link)
    assert opened == {"odd.h5"}


@on_linux
def test_the_record_of_opened_files_sees_what_hdf5_opens(path: Path) -> None:
    write_virtual(path)
    with record_opens(path.parent) as opened, h5py.File(path) as file:
        assert file["fixed"][0, 1] == 1
    assert opened == {"odd.h5", "other.h5"}


def test_the_files_that_a_read_would_open_are_listed(tmp_path: Path, path: Path) -> None:
    write_virtual(path)
    other = str(tmp_path / "other.h5")
    found = datasets_of(path)
    assert {name: found[name].external_files for name in found} == {
        "/data": (),
        "/fixed": (other,),
        "/growing": (other,),
        "/inside": (),
        "/linked": (other,),
        "/missing": (),
        "/nested": (other,),
        "/pattern": (".:data%b",),
        "/soft_linked": (other,),
    }
    assert {found[name].layout for name in found} == {"contiguous", "virtual"}
    write_external_storage(path)
    record = datasets_of(path)["/outside"]
    assert (record.layout, record.external_files) == ("external", (str(tmp_path / "values.raw"),))


def test_a_growing_virtual_dataset_has_its_stored_shape_until_its_sources_may_be_asked(path: Path) -> None:
    write_virtual(path)
    with h5py.File(path) as file:
        growing = open_object(file, "growing")
        assert read_dataset(growing).shape == (2, 5)
        assert read_dataset(growing, open_sources=True).shape == growing.shape == (4, 5)


def test_unfiltered_edge_chunks_are_told(path: Path) -> None:
    write_edge_unfiltered(path)
    found = datasets_of(path)
    assert {name: found[name].edge_unfiltered for name in found} == {
        "/cut": True,
        "/usual": False,
        "/whole": False,
    }


def test_unfiltered_edge_chunks_are_unknown_where_the_library_cannot_be_asked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_edge_unfiltered(path)
    monkeypatch.setattr(library, "find_library", lambda: None)
    with h5py.File(path) as file:
        plist = file["cut"].id.get_create_plist()
        assert read_edge_unfiltered(plist, (10,), (4,)) is None
        assert read_edge_unfiltered(plist, (12,), (4,)) is False


def test_a_huge_declared_grid_costs_nothing(path: Path) -> None:
    write_huge_grid(path)
    assert path.stat().st_size < 10_000
    start = time.perf_counter()
    record = datasets_of(path)["/huge"]
    assert time.perf_counter() - start < 0.5
    assert (record.shape, record.stored_chunks) == ((2**30, 2**17), 1)


def test_an_index_with_a_place_for_each_declared_chunk_is_not_searched_for_ever(path: Path) -> None:
    write_huge_array_index(path)
    start = time.perf_counter()
    record = datasets_of(path)["/huge"]
    assert time.perf_counter() - start < 0.5
    assert "1,073,741,824 slots" in str(record.problem)


@pytest.mark.parametrize("maxshape", [None, (None,)])
def test_an_index_that_is_not_there_is_not_searched(path: Path, maxshape: Any) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("huge", (2**30,), "i1", chunks=(1,), maxshape=maxshape, fillvalue=7)
    record = datasets_of(path)["/huge"]
    assert (record.problem, record.stored_chunks, record.stored_nbytes) == (None, 0, 0)
    assert convert(path, path.with_suffix(".zarr")).complete
    assert zarr.open_array(path.with_suffix(".zarr") / "huge")[2**30 - 1] == 7


def test_too_many_objects_are_refused_unless_the_limit_is_lifted(path: Path) -> None:
    write_many(path, 300)
    with h5py.File(path) as file:
        with pytest.raises(UnsafeSourceError, match=r"more than 299 objects and links.*raise max_objects"):
            read_hierarchy(file, max_objects=299)
        assert len(read_hierarchy(file, max_objects=300).groups) == 301


def test_long_paths_count_as_more_objects(path: Path) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("x" * 60_000)
        for i in range(10):
            group.create_group(str(i))
    with h5py.File(path) as file, pytest.raises(UnsafeSourceError, match="raise max_objects"):
        read_hierarchy(file, max_objects=2000)


def test_too_deep_groups_are_refused_unless_the_limit_is_lifted(path: Path) -> None:
    write_deep(path, 65)
    with h5py.File(path) as file:
        with pytest.raises(UnsafeSourceError, match=r"more than 64 components.*name a group below the root"):
            read_hierarchy(file)
        assert len(read_hierarchy(file, max_depth=65).groups) == 66


def test_a_path_is_opened_through_soft_links_of_the_file(path: Path) -> None:
    write_soft_links(path)
    with h5py.File(path) as file:
        for name in (
            "entry/data",
            "/entry//./data/",
            "absolute",
            "relative",
            "group/data",
            "entry/near",
            "chain",
        ):
            assert open_object(file, name) == file["entry/data"]
        assert open_object(file, "/") == file["/"]
        assert isinstance(open_object(file, "group"), h5py.Group)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("dangling", "nothing is at '/entry/none'; its group holds 'data', 'near'", id="dangling"),
        pytest.param("entry/dat", "nothing is at '/entry/dat'; similar names: 'data'", id="misspelled"),
        pytest.param(
            "entry/data/x", "'/entry/data' is not a group, so nothing is at '/entry/data/x'", id="in a dataset"
        ),
        pytest.param("circle", "soft links on the path form a circle, at '/circle'", id="circle"),
        pytest.param("spiral", "soft links on the path are more than 64, at '/spiral'", id="growing circle"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_ends(path: Path, name: str, message: str) -> None:
    write_soft_links(path)
    with h5py.File(path) as file, pytest.raises(DatasetNotFoundError) as caught:
        open_object(file, name)
    assert str(caught.value).startswith(f"{name!r} in {path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["there", "there/data", "behind"])
def test_an_external_link_anywhere_on_a_path_is_refused(path: Path, name: str) -> None:
    write_external_links(path)
    with (
        h5py.File(path) as file,
        pytest.raises(UnsafeSourceError, match=r"'/there' is an external link to other\.h5:/secret"),
    ):
        open_object(file, name)


def test_a_user_defined_link_is_refused(path: Path) -> None:
    write_user_link(path)
    with (
        h5py.File(path) as file,
        pytest.raises(UnsafeSourceError, match="'/odd_link' is a user-defined link to class 187"),
    ):
        open_object(file, "odd_link")


def test_a_committed_type_is_opened(path: Path) -> None:
    write_committed_type(path)
    with h5py.File(path) as file:
        assert open_object(file, "mytype") == file["mytype"]


def test_size_and_time_are_those_of_the_file(path: Path) -> None:
    write_layouts(path)
    records = index_of(path)
    assert (records.file, records.size, records.mtime_ns) == (
        str(path),
        path.stat().st_size,
        path.stat().st_mtime_ns,
    )
    with h5py.File(io.BytesIO(path.read_bytes())) as file:
        assert (read_hierarchy(file).size, read_hierarchy(file).mtime_ns) == (path.stat().st_size, 0)
        assert read_hierarchy(file).datasets == records.datasets


def test_an_index_pickles_to_itself_and_cannot_be_changed(path: Path) -> None:
    write_virtual(path)
    records = index_of(path)
    assert pickle.loads(pickle.dumps(records)) == records
    with pytest.raises(FrozenInstanceError):
        records.size = 0  # type: ignore[misc]


def test_what_h5py_says_is_one_line() -> None:
    assert describe(OSError("can't\n open  it")) == "can't open it"
    assert describe(TypeError()) == "TypeError:"
