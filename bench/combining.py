"""Series of daily files as one store: 200 files of 5 MB whose chunks are kept, and many small ones; from the cache."""

from __future__ import annotations

import shutil
import warnings
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import dask
import h5py
import numpy as np
import xarray as xr

from h5bound import combine, from_hdf5

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.turns import Ratios, Turns, Way

    Shape = tuple[int, int, int]

LARGE: Shape = (24, 256, 512)
"""Hours of a file, and points: 16-bit integers that gzip makes 5 MB of."""

SMALL: Shape = (8, 30, 60)
"""The same of a file of 60 kB."""


def make_series(folder: Path, count: int, shape: Shape) -> list[Path]:
    """Write the files of a series, with a chunk for each time; return their paths."""
    folder.mkdir(exist_ok=True)
    field = np.random.default_rng(0).normal(280, 5, shape)
    paths = [folder / f"day{number:05}.nc" for number in range(count)]
    for number, path in enumerate(paths):
        if path.exists():
            continue
        with h5py.File(path, "w") as file:
            for name, values in (("time", np.arange(shape[0]) + shape[0] * number), ("y", np.arange(shape[1]))):
                file.create_dataset(name, data=values, chunks=values.shape, maxshape=(None,))
                file[name].make_scale(name)
            file["x"] = np.arange(shape[2])
            file["x"].make_scale("x")
            data = file.create_dataset(
                "t2m", data=np.round(field * 100 + number).astype("i2"), chunks=(1, *shape[1:]),
                maxshape=(None, *shape[1:]), compression="gzip", compression_opts=1, shuffle=True,
            )  # fmt: skip
            for axis, name in enumerate(("time", "y", "x")):
                data.dims[axis].attach_scale(file[name])
    return paths


def combine_all(paths: Sequence[Path], target: Path) -> None:
    """Combine the files, which no earlier run has scanned."""
    assert combine(list(paths), target, dim="time", cache=False).complete


def combine_known(paths: Sequence[Path], target: Path) -> None:
    """Combine files whose scans are in the user's cache folder."""
    assert combine(list(paths), target, dim="time").complete


def combine_with_xarray(paths: Sequence[Path], target: Path) -> None:
    """Open the files with xarray, and write them: the usual way, with the tasks of dask."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = xr.open_mfdataset(
            paths, engine="h5netcdf", combine="nested", concat_dim="time", parallel=True, data_vars="minimal",
            coords="minimal", compat="override", chunks={}, decode_cf=False,
        )  # fmt: skip
        dataset.to_zarr(target)
        dataset.close()


def copy_files(paths: Sequence[Path], target: Path) -> None:
    """Copy the files as they are: the bare limit."""
    target.mkdir()
    for path in paths:
        shutil.copyfile(path, target / path.name)


WRITERS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    "combine": combine_all,
    "combine, scanned before": combine_known,
    "xarray": combine_with_xarray,
    "copies of the files": copy_files,
}


def write_once(writer: str, paths: Sequence[Path], folder: Path) -> float:
    """Return the seconds that it takes to write a store of all files, and check its values."""
    target = folder / f"{writer}.out"
    start = perf_counter()
    WRITERS[writer](paths, target)
    seconds = perf_counter() - start
    if writer != "copies of the files":
        found = xr.open_zarr(target, decode_cf=False, chunks=None).t2m
        with h5py.File(paths[-1]) as last:
            assert np.array_equal(found[-last["t2m"].shape[0] :].values, last["t2m"][:])
    shutil.rmtree(target)
    return seconds


def sum_array(paths: Sequence[Path]) -> float:
    """Return the seconds that one array of all files takes to be made and summed."""
    start = perf_counter()
    from_hdf5(list(paths), "t2m").sum(dtype="i8").compute()
    return perf_counter() - start


def sum_with_xarray(paths: Sequence[Path]) -> float:
    """Return the seconds that xarray takes to open all files and sum the variable."""
    start = perf_counter()
    with xr.open_mfdataset(
        paths, engine="h5netcdf", combine="nested", concat_dim="time", data_vars="minimal", coords="minimal",
        compat="override", chunks={}, decode_cf=False,
    ) as dataset:  # fmt: skip
        dataset.t2m.sum(dtype="i8").compute()
    return perf_counter() - start


def measure_combining(turns: Turns) -> Ratios:
    """Measure stores of many files beside xarray's, and copies; and sums over many files."""
    large = make_series(turns.folder / "large", 3 if turns.quick else 200, LARGE)
    small = make_series(turns.folder / "small", 3 if turns.quick else 1000, SMALL)
    ratios: Ratios = {}
    with dask.config.set(scheduler="threads"):
        for name, paths in (("5 MB", large), ("60 kB", small)):
            ways: dict[str, Way] = {writer: partial(write_once, writer, paths, turns.folder) for writer in WRITERS}
            found = turns.compare(ways, "xarray", rounds=1 if turns.quick else 3)
            ratios |= {f"{key}: {name}": ratio for key, ratio in found.items()}
            sums: dict[str, Way] = {"sum": partial(sum_array, paths), "xarray": partial(sum_with_xarray, paths)}
            found = turns.compare(sums, "xarray", rounds=1 if turns.quick else 3)
            ratios |= {f"{key}: {name}": ratio for key, ratio in found.items()}
    return ratios
