"""The graph: its keys and size, when tasks are made, and clone and bind of dask.graph_manipulation."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import dask
import dask.array as da
import dask.graph_manipulation
import distributed  # noqa: F401 - where it is imported, a copy of an array may be on a scheduler
import h5py
import numpy as np
import pytest
from dask.utils import key_split

from h5bound import H5Store, from_hdf5, from_resource
from h5bound.graph.layers import BlockLayer, OpenLayer
from tests.support.recorder import FileReader

if TYPE_CHECKING:
    from dask.highlevelgraph import HighLevelGraph

GRID = ((2,) * 8, (3,) * 8)  # 64 blocks


@pytest.fixture
def reader(tmp_path: Path) -> FileReader:
    return FileReader(tmp_path / "log")


def make_dask_array(reader: FileReader, *, window: str | None = None, barrier: bool = True) -> da.Array:
    return from_resource(reader, reader.read_block, chunks=GRID, dtype="int64", window=window, barrier=barrier)


def culled(array: da.Array) -> HighLevelGraph:
    return array.__dask_graph__().cull(list(dask.core.flatten(array.__dask_keys__())))


def test_the_keys_spell_the_picture(reader: FileReader) -> None:
    graph = dict(make_dask_array(reader).__dask_graph__())
    assert Counter(map(key_split, graph)) == {"open": 1, "read": 64, "close": 1, "wait_on": 64}
    (opened,) = (key for key in graph if key_split(key) == "open")
    (closed,) = (key for key in graph if key_split(key) == "close")
    reads = {key for key in graph if key_split(key) == "read"}
    assert graph[opened].dependencies == frozenset()
    assert all(graph[key].dependencies == {opened} for key in reads)
    assert graph[closed].dependencies == {opened, *reads}
    for key in graph:
        if key_split(key) == "wait_on":
            (read,) = graph[key].dependencies & reads
            assert graph[key].dependencies == {read, closed}
            assert read[1:] == key[1:]


def test_culling_keeps_the_picture(reader: FileReader) -> None:
    array = make_dask_array(reader)[2:4, 3:9]
    kinds = Counter(map(key_split, culled(array).to_dict()))
    assert kinds == {"open": 1, "read": 2, "close": 1, "wait_on": 2, "getitem": 2}


def test_a_block_costs_two_tasks_here_and_three_on_a_cluster(reader: FileReader) -> None:
    array = make_dask_array(reader)
    assert len(array.__dask_graph__()) == len(culled(array)) == 2 * 64 + 2
    travelled = pickle.loads(pickle.dumps(array))
    assert len(travelled.__dask_graph__()) == len(culled(travelled)) == 3 * 64 + 2


@pytest.mark.slow
def test_a_copy_costs_two_tasks_a_block_where_there_is_no_cluster(tmp_path: Path) -> None:
    script = f"""
        import pickle, sys
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from pathlib import Path
        from h5bound import from_resource
        from tests.support.recorder import FileReader
        reader = FileReader(Path({str(tmp_path / "log")!r}))
        array = from_resource(reader, reader.read_block, chunks=((2,) * 8, (3,) * 8), dtype="int64")
        print(len(pickle.loads(pickle.dumps(array)).__dask_graph__()), "distributed" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(2 * 64 + 2), "False"]


def test_on_a_cluster_close_depends_on_done_tokens_only(reader: FileReader) -> None:
    graph = culled(pickle.loads(pickle.dumps(make_dask_array(reader)))).to_dict()
    (closed,) = (key for key in graph if key_split(key) == "close")
    assert Counter(map(key_split, graph[closed].dependencies)) == {"open": 1, "done": 64}


def test_without_a_barrier_there_are_three_tasks_more_than_blocks(reader: FileReader) -> None:
    array = make_dask_array(reader, barrier=False)
    assert len(array.__dask_graph__()) == len(culled(array)) == 64 + 3


@pytest.mark.parametrize("blocks", [1, 3, 16, 63, 64], ids=str)
def test_every_window_has_its_close_and_the_blocks_of_a_window_fit_into_it(reader: FileReader, blocks: int) -> None:
    array = make_dask_array(reader, window=f"{blocks * 48} B")
    for graph in (dict(array.__dask_graph__()), culled(array).to_dict()):
        closes = [key for key in graph if key_split(key) == "close"]
        sizes = [len(graph[key].dependencies) - 1 for key in closes]
        assert sum(sizes) == 64
        assert max(sizes) <= blocks
        assert len(closes) == -(-64 // blocks)
        assert all(key_split(dep) in ("open", "read") for key in closes for dep in graph[key].dependencies)


def test_a_block_larger_than_the_window_is_a_window(reader: FileReader) -> None:
    graph = dict(make_dask_array(reader, window="1 B").__dask_graph__())
    assert Counter(map(key_split, graph))["close"] == 64


def test_blocks_that_are_combined_stand_in_one_window(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(64.0), chunks=(1,))
        file.create_dataset("y", data=np.arange(64.0), chunks=(1,))
    store = H5Store(path, chunks={}, window=8 * 16)
    graph = culled(store["x"] + store["y"]).to_dict()
    closes = [key for key in graph if key_split(key) == "close"]
    assert len(closes) == 8
    for key in closes:
        reads = [dep for dep in graph[key].dependencies if key_split(dep) == "read"]
        assert set(Counter(dep[1:] for dep in reads).values()) == {2}  # block i of x and of y


def test_the_private_argument_of_dask_marks_reads_as_producers(reader: FileReader) -> None:
    graph = dict(make_dask_array(reader).__dask_graph__())
    assert {key_split(key) for key, task in graph.items() if task.data_producer} == {"read"}


def test_dask_validates_the_graph(reader: FileReader) -> None:
    make_dask_array(reader).__dask_graph__().validate()
    da.utils.assert_eq(make_dask_array(reader), make_dask_array(reader).compute(), scheduler="sync")


def test_building_a_hundred_thousand_blocks_makes_no_task(reader: FileReader) -> None:
    start = time.perf_counter()
    array = from_resource(reader, reader.read_block, chunks=((2,) * 1000, (3,) * 100), dtype="int64")
    assert time.perf_counter() - start < 60  # a bound on hanging, not a timing
    layers = array.__dask_graph__().layers
    assert not any(layer.is_materialized() for layer in layers.values())
    assert array[5, 5].compute(scheduler="sync") == 3
    assert not any(layer.is_materialized() for layer in layers.values())
    assert reader.log.order() == ["open", "read", "close"]


def test_names_are_the_same_for_the_same_file_and_options_only(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(10)
    first = from_hdf5(path, "x")
    assert dict(first.__dask_graph__()).keys() == dict(from_hdf5(path, "/x").__dask_graph__()).keys()
    assert first.name == H5Store(path)["x"].name
    with h5py.File(path) as file:
        assert first.name == from_hdf5(file, "x").name
    others = [
        from_hdf5(path, "x", chunks=5),
        from_hdf5(path, "x", window="1 KiB"),
        from_hdf5(path, "x", barrier=False),
    ]
    with h5py.File(path, "r+") as file:
        file["x"][0] = 7
    others.append(from_hdf5(path, "x"))
    assert len({first.name, *(other.name for other in others)}) == 5
    assert not dict(first.__dask_graph__()).keys() & dict(others[-1].__dask_graph__()).keys()


def test_a_clone_shares_nothing_with_its_original(reader: FileReader) -> None:
    array = make_dask_array(reader)
    clone = dask.graph_manipulation.clone(array)
    assert not dict(array.__dask_graph__()).keys() & dict(clone.__dask_graph__()).keys()
    assert isinstance(clone.__dask_graph__().layers[clone.name], BlockLayer)
    assert int(clone[2:, 3:].sum().compute(scheduler="sync")) == int(array[2:, 3:].sum().compute())
    assert reader.log.count("open") == reader.log.count("close") == 2


def test_a_clone_reads_its_own_blocks_only(reader: FileReader) -> None:
    clone = dask.graph_manipulation.clone(make_dask_array(reader))
    assert clone[15, 23].compute(scheduler="sync") == 14
    assert reader.log.order() == ["open", "read", "close"]


@pytest.mark.parametrize("region", [(slice(None), slice(None)), (0, 0)], ids=["all", "one"])
def test_a_bound_array_opens_after_what_it_is_bound_to(reader: FileReader, region: tuple[object, ...]) -> None:
    first = dask.delayed(reader.log.add)("first")
    bound = dask.graph_manipulation.bind(make_dask_array(reader), first)
    bound[region].compute(scheduler="sync")
    assert reader.log.order()[:2] == ["first", "open"]
    assert reader.log.count("read") == (64 if region != (0, 0) else 1)
    bound.__dask_graph__().validate()


def test_what_an_array_is_bound_to_outlives_other_bindings(reader: FileReader) -> None:
    first, second = (dask.delayed(reader.log.add)(word) for word in ("first", "second"))
    bound = dask.graph_manipulation.bind(make_dask_array(reader), first)
    for array, before in (
        (dask.graph_manipulation.bind(bound, second), ["second", "first"]),
        (dask.graph_manipulation.bind(bound.sum(), second), ["second", "first"]),
    ):
        reader.log.clear()
        array.compute(scheduler="sync")
        assert reader.log.order()[: len(before) + 1] == [*before, "open"]


def test_arrays_of_one_file_share_the_open_layer_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = np.arange(10), np.arange(5)
    graph = (from_hdf5(path, "x").sum() + H5Store(path)["y"].sum()).__dask_graph__()
    assert sum(isinstance(layer, OpenLayer) for layer in graph.layers.values()) == 1


def test_differently_culled_copies_may_be_merged_in_any_order(reader: FileReader) -> None:
    array = make_dask_array(reader)
    parts = [culled(array[:4]).to_dict(), culled(array[2:, :6]).to_dict(), culled(array).to_dict()]
    keys = [key for part in (array[:4], array[2:, :6], array) for key in dask.core.flatten(part.__dask_keys__())]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        merged = {key: task for i in order for key, task in parts[i].items()}
        reader.log.clear()
        blocks = dask.threaded.get(merged, keys)
        assert len(blocks) == len(keys)
        assert reader.log.count("open") == reader.log.count("close") >= 1


def test_annotations_reach_the_tasks(reader: FileReader) -> None:
    with dask.annotate(retries=3):
        array = make_dask_array(reader)
    layers = culled(array).layers.values()
    assert [layer.annotations for layer in layers if len(layer)] == [{"retries": 3}]


def test_visualize_shows_readable_labels(reader: FileReader, tmp_path: Path) -> None:
    pytest.importorskip("graphviz")
    from dask.dot import to_graphviz

    source = to_graphviz(dict(make_dask_array(reader)[:2, :3].__dask_graph__())).source
    for label in ("open", "read", "close", "wait_on"):
        assert f"label={label} " in source or f'label="{label}"' in source
