"""What is found in tasks, also where dask has fused them."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask.local import convert_legacy_graph
from dask.task_spec import Task, TaskRef

from h5bound.overwriting.task_parts import STORE, list_leaves, list_stored, name_functions


def test_the_leaves_of_a_task_are_its_functions_and_arguments() -> None:
    region = (slice(0, 2), slice(None))
    task = Task("t", max, TaskRef("other"), [1, {"k": region}], key=len)
    assert [leaf for leaf in list_leaves(task) if not isinstance(leaf, TaskRef)][:3] == [max, len, 1]
    assert region in list(list_leaves(task))


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("size", [4, 1_000_000])
def test_what_blocks_are_stored_in_is_found(size: int, *, optimize: bool) -> None:
    target, array = np.zeros(size), da.ones(size, chunks=size // 2) * 2  # dask keeps large targets as tasks
    stored: Any = da.store(array, target, compute=False)
    graph = convert_legacy_graph((dask.optimize(stored)[0] if optimize else stored).__dask_graph__())
    found = [out for node in graph.values() for out in list_stored(node, graph)]
    assert len(found) == 2
    assert all(out is target for out in found)


def test_a_target_that_is_yet_to_be_made_is_its_task() -> None:
    stored: Any = da.store(da.ones(4, chunks=2) * 2, dask.delayed(np.zeros)(4), compute=False)
    graph = convert_legacy_graph(dask.optimize(stored)[0].__dask_graph__())
    stores = [node for node in graph.values() if STORE in name_functions(list_leaves(node))]
    found = [out for node in stores for out in list_stored(node, graph)]
    assert len(found) == 2
    assert all(isinstance(out, Task) and out.func is np.zeros for out in found)
