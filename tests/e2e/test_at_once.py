"""Conversions at once in one process, beside computes: in threads, in tasks of dask, on a worker with many threads."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from dask.callbacks import Callback
from zarr.errors import UnstableSpecificationWarning

from h5bound import convert, from_hdf5, verify
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

FILES = 60
THREADS = 4


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return small files of 2 to 8 datasets, among them types for which zarr warns."""
    folder, rng = tmp_path_factory.mktemp("sources"), np.random.default_rng(0)
    paths = [folder / f"{number}.h5" for number in range(FILES)]
    for number, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            file["text"] = np.array([b"ab", b"c"], "S2")
            for k in range(1 + number % 7):
                size = int(rng.integers(50, 3000))
                options: dict[str, Any] = {} if k % 3 == 2 else {"chunks": (size // 5 + 1,)}
                options |= {"compression": "gzip"} if k % 3 == 1 else {}
                file.create_dataset(f"x{k}", data=rng.integers(0, 99, size).astype(">i4" if k % 2 else "f8"), **options)
    return paths


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns after 10 µs in place of 5 ms. dask may then lose or keep callbacks of the user's."""
    before, callbacks = sys.getswitchinterval(), set(Callback.active)
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)
    Callback.active = callbacks


@dataclass
class Told:
    """What a progress function was told; it takes so long that a second call at the same time would be seen."""

    calls: list[tuple[int, int]] = field(default_factory=list)
    busy: bool = False
    overlaps: int = 0
    threads: set[int] = field(default_factory=set)

    def __call__(self, done: int, total: int) -> None:
        """Note one call."""
        self.overlaps += self.busy
        self.busy = True
        self.calls.append((done, total))
        self.threads.add(threading.get_ident())
        time.sleep(0)
        self.busy = False


def convert_and_check(source: Path, target: Path) -> list[tuple[int, int]]:
    """Convert, with or without a graph, check the store and what the progress function was told, and return that."""
    told = Told()
    report = convert(source, target, verify=True, progress=told, workers=2 if int(source.stem) % 2 else None)
    assert report.verification is not None
    assert report.verification.equal
    with h5py.File(source) as file, quiet_zarr():
        store: Any = zarr.open_group(target, mode="r")
        for name, dataset in [(name, file[name]) for name in file]:
            assert np.array_equal(store[name][:], dataset[:])
    total = told.calls[0][1]
    assert told.calls[-1][0] == total
    assert {each for _, each in told.calls} == {total}
    assert told.calls == sorted(told.calls)
    assert told.overlaps == 0
    assert told.threads == {threading.get_ident()}
    return told.calls


class Keys(Callback):  # type: ignore[misc]  # dask's Callback is untyped
    """The keys of the tasks that a compute of the user's ran."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        super().__init__()

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        self.keys.append(str(key))


def compute_sum(path: Path) -> None:
    """Compute an array of a file, through dask and through xarray."""
    with h5py.File(path) as file:
        expected = file["x0"][:].sum()
    assert from_hdf5(path, "x0", chunks={}).sum().compute() == expected
    with xr.open_dataset(path, engine="h5bound", chunks={}) as dataset:
        assert dataset.x0.sum().compute() == expected


def compute_watched(_path: Path) -> None:
    """Compute an array of dask under a callback, which hears of no conversion."""
    with Keys() as seen:
        assert da.ones(100, chunks=10).sum().compute() == 100
    assert not [key for key in seen.keys if "write-" in key or "compare-" in key]


@contextmanager
def computes_beside(sources: list[Path]) -> Iterator[None]:
    """Compute arrays of the files, and others under callbacks of the user's, in two threads."""
    stop = threading.Event()

    def repeat(act: Callable[[Path], None]) -> None:
        for path in cycle(sources):
            act(path)
            if stop.wait(0.02):
                return

    with ThreadPoolExecutor(2) as pool:
        beside = [pool.submit(repeat, act) for act in (compute_sum, compute_watched)]
        try:
            yield
        finally:
            stop.set()
        for future in beside:
            future.result()


@pytest.mark.usefixtures("switching")
def test_conversions_in_threads_hear_of_nothing_but_themselves(sources: list[Path], tmp_path: Path) -> None:
    alone = [convert_and_check(source, tmp_path / f"alone-{source.stem}") for source in sources[:7]]
    with computes_beside(sources), ThreadPoolExecutor(THREADS) as pool:
        calls = list(pool.map(lambda source: convert_and_check(source, tmp_path / source.stem), sources))
    assert [each[-1] for each in calls[:7]] == [each[-1] for each in alone]


@pytest.mark.usefixtures("switching")
def test_conversions_in_a_compute_have_threads_of_their_own(sources: list[Path], tmp_path: Path) -> None:
    """Whatever pool or executor the compute has, it is full of tasks that wait for a conversion."""
    for number, name in enumerate(("num_workers", "pool", "scheduler")):
        with ThreadPoolExecutor(THREADS) as pool:
            some = sources[8 * number : 8 * number + 8]
            with dask.config.set({name: THREADS if name == "num_workers" else pool}), computes_beside(sources):
                tasks = [dask.delayed(convert_and_check)(source, tmp_path / source.stem) for source in some]
                assert len(dask.compute(*tasks)) == 8


@pytest.mark.parametrize("processes", [False, True])
def test_conversions_in_tasks_of_a_worker_with_several_threads(
    processes: bool, sources: list[Path], tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": THREADS, "processes": processes, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        client.run(sys.setswitchinterval, 1e-5)
        tasks = [dask.delayed(convert_and_check)(source, tmp_path / source.stem) for source in sources[:16]]
        assert len(dask.compute(*tasks)) == 16
        client.run(sys.setswitchinterval, 5e-3)


@pytest.mark.usefixtures("switching")
def test_warnings_of_zarr_are_silent_for_h5bound_and_for_nobody_else(sources: list[Path], tmp_path: Path) -> None:
    """The filters of the process are neither lost nor kept, as `catch_warnings` in threads does."""

    def create(number: int) -> None:
        with pytest.raises(UnstableSpecificationWarning):
            zarr.create_array(tmp_path / f"own-{number}", shape=1, dtype="S2")

    with quiet_zarr():
        pass
    before = list(warnings.filters)
    with ThreadPoolExecutor(THREADS) as pool:
        created = [pool.submit(create, number) for number in range(20)]
        list(pool.map(lambda source: convert(source, tmp_path / source.stem), sources[:20]))
        for future in created:
            future.result()
    assert list(warnings.filters) == before
    assert verify(sources[0], tmp_path / sources[0].stem).equal
