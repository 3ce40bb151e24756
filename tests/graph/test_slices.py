"""A slice reads what it takes of a block, a block that is needed whole is read whole, and the values never differ."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
from dask.callbacks import Callback
from dask.distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st

from h5bound import H5Store, from_hdf5, from_resource
from h5bound.graph.slices import plan_part
from tests.support.http_server import serve
from tests.support.recorder import FileReader

if TYPE_CHECKING:
    from collections.abc import Callable

    Index = tuple[Any, ...]

SHAPE = (2000, 1250)  # float64: 20 MB in rows of 10 kB
BLOCK = (500, 1250)
VALUES = np.arange(math.prod(SHAPE), dtype="f8").reshape(SHAPE)
ALLOWED = 1 << 20
"""Bytes that may be read beside those that are needed."""

IO = Path("/proc/self/io")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slices") / "a.h5"
    with h5py.File(path, "w") as file:
        file["contiguous"] = VALUES
        file.create_dataset("tiny", data=VALUES, chunks=(1, 125))
        file.create_dataset("gzip", data=VALUES[:, :100], chunks=(20, 50), compression="gzip", shuffle=True)
    return path


def nbytes_read(compute: Callable[[], object]) -> int:
    """Return the bytes that this process reads from files meanwhile."""
    if not IO.exists():
        pytest.skip("Linux counts the bytes that a process reads")

    def count() -> int:
        return int(IO.read_text().split()[1])

    before = count()
    compute()
    return count() - before


@pytest.mark.parametrize("barrier", [True, False])
@pytest.mark.parametrize("name", ["contiguous", "tiny"])
@pytest.mark.parametrize(
    "index",
    [
        np.s_[5],
        np.s_[-1],
        np.s_[490:510],
        np.s_[7, 1000],
        np.s_[7:8, None, ::-3],
        np.s_[509:490:-1],
        np.s_[3:3],
        np.s_[::100],
        np.s_[-1::-77, 5:9],
    ],
    ids=str,
)
def test_a_slice_reads_no_more_than_it_takes(path: Path, name: str, index: Any, *, barrier: bool) -> None:
    array = from_hdf5(path, name, chunks=BLOCK, barrier=barrier)
    np.testing.assert_array_equal(array[index].compute(), VALUES[index])
    assert nbytes_read(array[index].compute) < VALUES[index].nbytes + ALLOWED


def test_slices_of_slices_and_what_is_computed_from_them_are_narrowed(path: Path) -> None:
    array = from_hdf5(path, "contiguous", chunks=BLOCK)
    for result, expected in (
        (array[100:300:50][1], VALUES[150]),
        ((array[5] + 1).sum(), (VALUES[5] + 1).sum()),
        (array[5].mean() - array[600].mean(), VALUES[5].mean() - VALUES[600].mean()),
        (array[5].astype("f4"), VALUES[5].astype("f4")),
    ):
        np.testing.assert_array_equal(result.compute(), expected)
        assert nbytes_read(result.compute) < ALLOWED


def test_all_arrays_of_a_store_are_narrowed(path: Path) -> None:
    xr = pytest.importorskip("xarray")
    store = H5Store(path, chunks=BLOCK)
    dataset = xr.Dataset({name: (("y", "x"), store[name]) for name in ("contiguous", "tiny")})
    row = dataset.isel(y=700)
    for array in row.compute().values():
        np.testing.assert_array_equal(array, VALUES[700])
    assert nbytes_read(row.compute) < ALLOWED


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_all_schedulers_give_the_same_values(path: Path, scheduler: str) -> None:
    part = from_hdf5(path, "gzip", chunks=(500, 100))[3:9, ::-7]
    np.testing.assert_array_equal(part.compute(scheduler=scheduler), VALUES[3:9, 99::-7])


def test_blocks_that_are_needed_whole_are_read_once_and_whole(path: Path) -> None:
    array = from_hdf5(path, "contiguous", chunks=BLOCK)[:500]
    several = array[5] + array[7]
    np.testing.assert_array_equal(several.compute(), VALUES[5] + VALUES[7])
    whole, row = dask.compute(array, array[5])
    np.testing.assert_array_equal(whole, VALUES[:500])
    np.testing.assert_array_equal(row, VALUES[5])
    assert nbytes_read(partial(dask.compute, array, array[5])) < VALUES[:500].nbytes + ALLOWED
    for index in ([1, 5], VALUES[:500, 0] > 5000, array[:, 0] > 5000):
        expected = VALUES[:500][index.compute() if isinstance(index, da.Array) else index]
        np.testing.assert_array_equal(array[index].compute(), expected)
    np.testing.assert_array_equal(array[5].compute(optimize_graph=False), VALUES[5])


@pytest.mark.parametrize("rows", [500, 2000])
def test_copies_of_an_array_that_share_reads_have_the_same_values(path: Path, rows: int) -> None:
    array = from_hdf5(path, "contiguous", chunks=(rows, 1250))[:rows]
    parts = [dask.optimize(part)[0] for part in (array[5], array[3:5], array)]
    for found in (
        dask.compute(*parts),
        dask.compute(array[5], array[3:5], array.to_delayed()[0, 0]),
    ):
        for values, wanted in zip(found, (VALUES[5], VALUES[3:5], VALUES[:rows]), strict=True):
            np.testing.assert_array_equal(values, wanted)


def test_a_read_that_two_slices_share_in_a_merged_graph_is_not_narrowed(path: Path) -> None:
    array = from_hdf5(path, "contiguous", chunks=BLOCK)
    parts = [dask.optimize(part)[0] for part in (array[5:6], array[3:5])]
    graph = {key: task for part in parts for key, task in part.__dask_graph__().items()}
    found = dask.get(graph, [part.__dask_keys__()[0][0] for part in parts])
    for values, wanted in zip(found, (VALUES[5:6], VALUES[3:5]), strict=True):
        np.testing.assert_array_equal(values, wanted)


@pytest.mark.parametrize("rows", [500, 2000])
def test_a_cache_of_dask_keeps_parts_and_whole_blocks_apart(path: Path, rows: int) -> None:
    with Kept():
        for name in ("contiguous", "tiny", "gzip"):
            array = from_hdf5(path, name, chunks=(rows, 100))
            for index in (np.s_[5::1000], np.s_[3:2000:1000], np.s_[:], np.s_[7], np.s_[2:4]):
                np.testing.assert_array_equal(array[index].compute(), VALUES[:, : array.shape[1]][index])
        with h5py.File("kept.h5", "w", driver="core", backing_store=False) as file:
            for name in "ab":
                target = file.create_dataset(name, array.shape, array.dtype)
                da.store(array * 2, target)
                np.testing.assert_array_equal(target, VALUES[:, :100] * 2)


class Kept(Callback):  # type: ignore[misc]  # dask's Callback is untyped
    """Keep all values, as `dask.cache.Cache` does with those that are expensive."""

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[Any, Any] = {}

    def _start(self, graph: dict[Any, Any]) -> None:
        graph.update({key: self._values[key] for key in graph.keys() & self._values})

    def _posttask(self, key: Any, value: Any, *_: object) -> None:
        self._values[key] = value


def test_a_resource_is_read_in_whole_blocks(tmp_path: Path) -> None:
    reader = FileReader(tmp_path / "log")
    array = from_resource(reader, reader.read_block, chunks=((2, 2), (3,)), dtype="int64")
    whole = array.compute()
    np.testing.assert_array_equal(array[1, ::-2].compute(), whole[1, ::-2])


def test_from_a_server_only_what_slices_take_is_requested(path: Path) -> None:
    pytest.importorskip("aiohttp")
    with serve(path.parent) as server:
        array = from_hdf5(f"{server.url}/{path.name}", "contiguous", chunks=BLOCK)
        server.forget()
        np.testing.assert_array_equal(array[499:501].compute(), VALUES[499:501])
        assert server.nbytes() < ALLOWED


@pytest.mark.slow
def test_slices_on_a_cluster_have_the_same_values(path: Path) -> None:
    with LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster, Client(cluster):
        array = from_hdf5(path, "contiguous", chunks=BLOCK)
        np.testing.assert_array_equal(array[490:510:-1, 3].compute(), VALUES[490:510:-1, 3])


def test_what_selects_no_part_of_a_block_is_left_to_numpy() -> None:
    region = (slice(10, 20), slice(0, 5))
    for index in ((True, slice(0, 2)), (7, 7), (..., 3), ([1, 2], 3), "name", 3):
        assert plan_part(region, index) is None


@given(st.data())
def test_any_index_of_the_part_is_that_of_the_block(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    starts = [data.draw(st.integers(0, 3)) for _ in shape]
    stops = [start + data.draw(st.integers(0, 6)) for start in starts]
    region = tuple(map(slice, starts, stops))
    whole = np.arange(1000).reshape(10, 10, 10)[(slice(None),) * len(shape)]
    block = whole[region]
    items: list[Any] = [_draw_item(data, stop - start) for start, stop in zip(starts, stops, strict=True)]
    if data.draw(st.booleans()):
        items.insert(data.draw(st.integers(0, len(items))), None)
    index = tuple(items)
    places = plan_part(region, index)
    part, inside = places or (region, index)
    np.testing.assert_array_equal(whole[part][inside], block[index])
    assert all(
        outer.start <= inner.start <= inner.stop <= outer.stop for outer, inner in zip(region, part, strict=True)
    )


def _draw_item(data: st.DataObject, length: int) -> int | slice:
    numbers = st.integers(-length, length - 1) if length else st.nothing()
    return data.draw(numbers | st.slices(length))
