"""Series of daily files as one store whose chunks are kept: 200 files of 5 MB, 200 of 60 kB, 12,000 of 16 kB."""

from __future__ import annotations

import json
import os
import subprocess
import warnings
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import TYPE_CHECKING
from unittest.mock import patch
from uuid import uuid4

import dask
import h5py
import numpy as np
import xarray as xr

from h5bound import combine, from_hdf5, references

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.turns import Ratios, Turns, Way

    Shape = tuple[int, int, int]

LARGE: Shape = (24, 256, 512)
"""Hours of a file, and points: 16-bit integers that gzip makes 5 MB of."""

SMALL: Shape = (8, 30, 60)
"""The same of a file of 60 kB."""

TINY: Shape = (4, 10, 20)
"""The same of a file of 16 kB."""

DIFFERENT = 4
"""Files of a series of which each has other values."""


def make_series(folder: Path, count: int, shape: Shape) -> list[Path]:
    """Write the files of a series, with a chunk for each time, unless they are there; return their paths."""
    folder.mkdir(exist_ok=True)
    field = np.random.default_rng(0).normal(280, 5, shape)
    encoded: list[list[bytes]] = []  # of the first files, which the others repeat
    paths = [folder / f"day{number:05}.nc" for number in range(count)]
    if all(path.exists() for path in paths):
        return paths
    for number, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            for name, values in (("time", np.arange(shape[0]) + shape[0] * number), ("y", np.arange(shape[1]))):
                file.create_dataset(name, data=values, chunks=values.shape, maxshape=(None,))
                file[name].make_scale(name)
            file["x"] = np.arange(shape[2])
            file["x"].make_scale("x")
            data = file.create_dataset(
                "t2m", shape, "i2", chunks=(1, *shape[1:]), maxshape=(None, *shape[1:]), compression="gzip",
                compression_opts=1, shuffle=True,
            )  # fmt: skip
            if number < DIFFERENT:
                data[:] = np.round(field * 100 + number).astype("i2")
                encoded.append([data.id.read_direct_chunk((time, 0, 0))[1] for time in range(shape[0])])
            else:
                for time, chunk in enumerate(encoded[number % DIFFERENT]):
                    data.id.write_direct_chunk((time, 0, 0), chunk)
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
    """Copy the files as they are."""
    subprocess.run(["cp", "-r", *paths, make_folder(target)], check=True)


def write_keys(paths: Sequence[Path], target: Path) -> None:
    """Write the directories and files of the keys of the variable, and do nothing else: the bare limit."""
    number, below = 0, make_folder(target / "t2m")
    for path in paths:
        with h5py.File(path) as file:
            dataset = file["t2m"].id
            chunks = [dataset.get_chunk_info(i) for i in range(dataset.get_num_chunks())]
        with path.open("rb", buffering=0) as source:
            for chunk in chunks:
                key = f"{below}/{number}"
                os.mkdir(key)  # noqa: PTH102 - `Path` takes longer than the system
                os.mkdir(f"{key}/0")  # noqa: PTH102
                data = os.pread(source.fileno(), chunk.size, chunk.byte_offset)
                with open(f"{key}/0/0", "wb", buffering=0) as out:  # noqa: PTH123
                    out.write(data)
                number += 1


def make_folder(path: Path) -> Path:
    """Make a folder, and those above it; return its path."""
    path.mkdir(parents=True)
    return path


WRITERS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    "combine": combine_all,
    "combine, scanned before": combine_known,
    "xarray": combine_with_xarray,
    "copies of the files": copy_files,
    "bare loop": write_keys,
}


def write_once(writer: str, paths: Sequence[Path], folder: Path) -> float:
    """Return the seconds that it takes to write a store of all files, and check its values."""
    target = folder / f"{writer} {uuid4().hex}"
    start = perf_counter()
    WRITERS[writer](paths, target)
    seconds = perf_counter() - start
    if "combine" in writer or writer == "xarray":
        found = xr.open_zarr(target, decode_cf=False, chunks=None).t2m
        with h5py.File(paths[-1]) as last:
            assert np.array_equal(found[-last["t2m"].shape[0] :].values, last["t2m"][:])
    empty(target)
    return seconds


def empty(folder: Path) -> None:
    """Empty all files, which are deleted with all others at the end.

    Without a journal, ext4 passes over the inodes that were deleted minutes ago one by one whenever it makes a file.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            os.truncate(f"{place}/{name}", 0)


def refer(paths: Sequence[Path], folder: Path) -> float:
    """Return the seconds that references to files take, of which nothing is in the cache."""
    with patch.dict(os.environ, XDG_CACHE_HOME=str(folder / uuid4().hex)):
        start = perf_counter()
        references(list(paths), folder / f"{uuid4().hex}.json", dim="time")
        return perf_counter() - start


def refer_with_kerchunk(paths: Sequence[Path], folder: Path) -> float:
    """Return the seconds that the same references take with kerchunk."""
    scan = import_module("kerchunk.hdf").SingleHdf5ToZarr
    start = perf_counter()
    parts = [scan(str(path), inline_threshold=0).translate() for path in paths]
    joined = import_module("kerchunk.combine").MultiZarrToZarr(
        parts, concat_dims=["time"], identical_dims=["x", "y"], remote_protocol="file"
    )
    (folder / f"{uuid4().hex}.json").write_text(json.dumps(joined.translate()))
    return perf_counter() - start


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
    """Measure stores of many files beside xarray's, copies and the bare limit; references; sums over many files."""
    counts = (3, 3, 6) if turns.quick else (200, 200, 12_000)
    shapes = {"5 MB": LARGE, "60 kB": SMALL, "tiny": TINY}
    series = [
        make_series(turns.folder / name, count, shape)
        for (name, shape), count in zip(shapes.items(), counts, strict=True)
    ]
    ratios: Ratios = {}

    def compare(name: str, ways: dict[str, Way], reference: str, rounds: int) -> None:
        found = turns.compare(ways, reference, rounds=rounds, warm=rounds > 1)
        ratios.update({f"{name}: {key}": ratio for key, ratio in found.items()})

    with dask.config.set(scheduler="threads"):
        for name, paths, rounds in zip(shapes, series, (2, 1, 1), strict=True):
            left_out = {"xarray"} if name == "tiny" else set()
            left_out |= {"combine, scanned before"} if rounds == 1 else set()  # no round before has scanned them
            writers = [writer for writer in WRITERS if writer not in left_out]
            ways: dict[str, Way] = {writer: partial(write_once, writer, paths, turns.folder) for writer in writers}
            compare(name, ways, "copies of the files" if "xarray" in left_out else "xarray", rounds)
            if "xarray" not in left_out:
                sums: dict[str, Way] = {"sum": partial(sum_array, paths), "xarray": partial(sum_with_xarray, paths)}
                compare(f"{name}, sum", sums, "xarray", rounds)
        if find_spec("kerchunk"):
            both: dict[str, Way] = {
                "references": partial(refer, series[0], turns.folder),
                "kerchunk": partial(refer_with_kerchunk, series[0], turns.folder),
            }
            compare("5 MB, references", both, "kerchunk", 2)
    return ratios
