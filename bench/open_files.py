"""Measure descriptors and threads while many files are read, beside other readers: ``python -m bench.open_files``.

Each measurement is a process of its own under a real limit of descriptors. ``right`` tells whether all values were
right, ``writable`` whether the first file could be opened for writing at once afterwards, with the dataset not closed.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import h5py
import numpy as np
import xarray as xr

import h5bound
from bench.beside_writers import read_swmr, set_limit, write_back
from bench.peak import Peak
from bench.turns import call_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Read = Callable[[Sequence[Path], str], float]

SHAPE = (64, 64)
CHUNKS = (32, 64)
VALUES = np.arange(64.0 * 64).reshape(SHAPE)


def make_files(directory: Path, count: int, variables: int) -> list[Path]:
    """Write files with some variables in two chunks each, all with the same values."""
    variable = xr.Variable(("t", "x"), VALUES, encoding={"chunksizes": CHUNKS, "zlib": True})
    paths = [directory / f"{i:04}.nc" for i in range(count)]
    xr.Dataset({f"v{i}": variable for i in range(variables)}).to_netcdf(paths[0], engine="h5netcdf")
    for path in paths[1:]:
        shutil.copy(paths[0], path)
    return paths


def sum_dataset(paths: Sequence[Path], reader: str) -> float:
    """Return the sum of all variables of files that xarray has opened together."""
    dataset = xr.open_mfdataset(paths, engine=reader, combine="nested", concat_dim="file", chunks={})
    return sum(float(value) for value in dataset.sum().compute().values())


def sum_stacked(paths: Sequence[Path], reader: str) -> float:
    """Return the sum of arrays that dask has stacked, block by block across all files, so that all files are in use."""
    if reader == "h5py":
        arrays = [da.from_array(h5py.File(path)["v0"], chunks=CHUNKS) for path in paths]
    else:
        arrays = [h5bound.from_hdf5(path, "v0", chunks=CHUNKS, barrier=False) for path in paths]
    return float(da.stack(arrays).rechunk({0: len(paths)}).map_blocks(np.sum, axis=0, drop_axis=0).sum().compute())


def sum_each(paths: Sequence[Path], reader: str) -> float:
    """Return the sum of all variables of files that are opened and read one after the other, and stay referenced."""
    datasets = [xr.open_dataset(path, engine=reader) for path in paths]
    return sum(float(array.values.sum()) for dataset in datasets for array in dataset.data_vars.values())


def on_threads(read: Read, paths: Sequence[Path], reader: str) -> tuple[float, dict[str, int]]:
    """Read on eight threads."""
    before = Peak().start()
    with dask.config.set(scheduler="threads", num_workers=8):
        return read(paths, reader), before.stop()


def twice_on_threads(read: Read, paths: Sequence[Path], reader: str) -> tuple[float, dict[str, int]]:
    """Read one half of the files in each of two threads, both with four threads of dask."""
    peak, half = Peak().start(), len(paths) // 2
    with dask.config.set(scheduler="threads", num_workers=4), ThreadPoolExecutor(2) as pool:
        totals = list(pool.map(lambda part: read(part, reader), (paths[:half], paths[half:])))
    return sum(totals), peak.stop()


def on_workers(read: Read, paths: Sequence[Path], reader: str, *, processes: bool) -> tuple[float, dict[str, int]]:
    """Read on a worker of four threads; measure the process that it is in."""
    from distributed import Client, LocalCluster

    options: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 4, "dashboard_address": ":0"}
    with LocalCluster(processes=processes, **options) as cluster, Client(cluster) as client:
        client.run(start_peak)
        total = client.submit(read, paths, reader).result() if read is sum_each else read(paths, reader)
        (peak,) = client.run(stop_peak).values()
        return total, {**peak, "writable": is_writable(paths[0])}


def start_peak(dask_worker: Any) -> None:
    dask_worker.peak = Peak().start()


def stop_peak(dask_worker: Any) -> dict[str, int]:
    return dict(dask_worker.peak.stop())


def is_writable(path: Path) -> bool:
    try:
        h5py.File(path, "a").close()
    except OSError:
        return False
    return True


CASES: dict[str, tuple[Any, Read, int, int]] = {  # where, what, files, variables of each
    "threads": (on_threads, sum_dataset, 300, 1),
    "threads-arrays": (on_threads, sum_stacked, 600, 1),
    "two-computes": (twice_on_threads, sum_dataset, 128, 1),
    "two-computes-arrays": (twice_on_threads, sum_stacked, 400, 1),
    "worker": (on_workers, sum_dataset, 300, 1),
    "worker-arrays": (on_workers, sum_stacked, 300, 1),
    "worker-variables": (on_workers, sum_dataset, 1, 1000),
    "worker-task": (on_workers, sum_each, 600, 1),
}


BESIDE: dict[str, Callable[..., dict[str, Any]]] = {
    "swmr": read_swmr,
    "write back with h5netcdf": partial(write_back, writer="h5netcdf"),
    "write back with netCDF4": partial(write_back, writer="netcdf4"),
    "write back with h5netcdf on a worker": partial(write_back, writer="h5netcdf", clustered=True),
    "write back with netCDF4 on a worker": partial(write_back, writer="netcdf4", clustered=True),
}
"""What is read beside a writer."""


def measure(case: str, reader: str, *, limit: int, processes: bool = False, files: int = 0) -> dict[str, Any]:
    """Return the measurements of a case in this process, or the error that ended it."""
    run, read, count, variables = CASES[case]
    with tempfile.TemporaryDirectory() as directory:
        paths = make_files(Path(directory), files or count, variables)
        set_limit(limit)
        options = {"processes": processes} if run is on_workers else {}
        started = time.perf_counter()
        try:
            total, peak = run(read, paths, reader, **options)
        except Exception as error:  # noqa: BLE001 - that a reader fails is a result
            return {"error": f"{type(error).__name__}: {error}"[:200]}
        right = bool(total == VALUES.sum() * len(paths) * variables)
        return {"right": right, **peak, "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    for case, (run, read, _, _) in CASES.items():
        for limit in (1024, 256, 64):
            for processes in (False, True) if run is on_workers else (False,):
                for reader in ("h5bound", "h5py" if read is sum_stacked else "h5netcdf"):
                    if reader == "h5py" and run is on_workers:
                        continue  # an open file does not travel
                    found = call_alone(measure, case, reader, limit=limit, processes=processes)
                    where = " in processes" if processes else ""
                    print(f"{case} {limit}{where} {reader}: {found}", flush=True)
    for limit, name in product((256, 64), BESIDE):
        for reader in ("h5bound", "h5py" if name == "swmr" else "h5netcdf"):
            print(f"{name} {limit} {reader}: {call_alone(BESIDE[name], reader, limit=limit)}", flush=True)


if __name__ == "__main__":
    import_module("bench.open_files").main()  # workers know its functions by this name
