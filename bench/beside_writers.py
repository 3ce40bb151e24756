"""Measure what readers get beside a writer, and what the writer gets: ``python -m bench.open_files``.

The writer is the same compute, which adds to the file what it computes from it, or another process that appends to the
file in SWMR mode.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import xarray as xr

import h5bound
from bench.peak import Peak

SHAPE = (64, 100, 100)

READS = 25

APPEND = """
import sys, time, h5py
with h5py.File(sys.argv[1], "w", libver="latest") as file:
    dataset = file.create_dataset("x", (0, 100), "f8", maxshape=(None, 100), chunks=(1, 100))
    file.swmr_mode = True
    for i in range(1_000_000):
        dataset.resize(i + 1, 0)
        dataset[i] = i
        dataset.flush()
        if i == 100:
            print("begun", flush=True)
        time.sleep(0.002)
"""


def write_back(reader: str, writer: str, *, limit: int, clustered: bool = False) -> dict[str, Any]:
    """Return whether xarray adds to a file what it computes from it, and what that takes."""
    from distributed import Client, LocalCluster

    values = np.random.default_rng(0).normal(size=SHAPE)
    encoding = {"a": {"chunksizes": (1, *SHAPE[1:]), "zlib": True}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nc"
        xr.Dataset({"a": (("t", "y", "x"), values)}).to_netcdf(path, engine="h5netcdf", encoding=encoding)
        set_limit(limit)
        logging.disable()  # a worker logs each task that is refused
        options: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 4, "processes": False}
        cluster = Client(LocalCluster(dashboard_address=":0", **options)) if clustered else nullcontext()
        with cluster, dask.config.set({} if clustered else {"scheduler": "threads", "num_workers": 8}):
            peak, error = Peak().start(), ""
            dataset = xr.open_dataset(path, engine=reader, chunks={})
            dataset["c"] = dataset.a * 2
            try:
                dataset[["c"]].to_netcdf(path, mode="a", engine=writer)  # type: ignore[call-overload]
            except Exception as refused:  # noqa: BLE001 - that it is refused is a result
                error = type(refused).__name__
            found = peak.stop()
            dataset.close()
        with h5py.File(path) as file:
            same = bool(np.array_equal(file["a"][...], values))
            written = "c" in file and bool(np.array_equal(file["c"][...], values * 2))
            left = "c" in file and not written
    return {"written": written, "error": error, "left empty": left, "source is the same": same, **found}


def read_swmr(reader: str, *, limit: int) -> dict[str, Any]:
    """Return how many reads were right while another process appends, and what they take."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        command = [sys.executable, "-c", APPEND, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            set_limit(limit)
            peak, right = Peak().start(), 0
            for _ in range(READS):
                with h5py.File(path, "r", swmr=True) as file:
                    values = file["x"][...] if reader == "h5py" else h5bound.from_hdf5(file, "x").compute()
                right += len(values) > 100 and bool((values == np.arange(len(values))[:, None]).all())
            found = peak.stop()
            goes_on = writer.poll() is None
            writer.kill()
    return {"right": right, "of": READS, "the writer goes on": goes_on, **found}


def set_limit(limit: int) -> None:
    """Let this process have so many descriptors."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
