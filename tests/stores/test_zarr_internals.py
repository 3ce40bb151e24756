"""The names of zarr that are not public: what h5bound needs of each, so that a failure here says what zarr changed."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore, WrapperStore

import h5bound
from h5bound.stores.zarr_internals import run, unwrap


def test_coroutines_run_in_the_event_loop_that_arrays_use() -> None:
    loops = []

    class Recording(WrapperStore[MemoryStore]):
        async def set(self, *args: Any) -> None:
            loops.append(asyncio.get_running_loop())
            await super().set(*args)

    store = Recording(MemoryStore())
    run(store.set("key", default_buffer_prototype().buffer.from_bytes(b"bytes")))
    array = zarr.create_array(store, name="x", shape=(2,), chunks=(2,), dtype="i4")
    array[:] = np.arange(2, dtype="i4") + 1
    assert len(loops) > 2
    assert len(set(loops)) == 1


def test_what_a_coroutine_raises_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        run(fail())


def test_the_store_below_wrappers_is_found() -> None:
    inner = MemoryStore()
    assert unwrap(WrapperStore(WrapperStore(inner))) is inner
    assert unwrap(inner) is inner


def test_no_other_module_uses_private_names_of_zarr() -> None:
    package = Path(h5bound.__file__).parent
    private = re.compile(r"zarr\.core|zarr\._|from zarr\S* import _|\b\w*store\._(?!_)\w")
    users = [path.name for path in package.rglob("*.py") if private.search(path.read_text(encoding="utf-8"))]
    assert users == ["zarr_internals.py"]
