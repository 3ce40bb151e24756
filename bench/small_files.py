"""Conversions of 40 small files: netCDF-4 as xarray writes it, 4 variables and 60 kB each, from the page cache."""

from __future__ import annotations

import shutil
import warnings
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from h5bound import convert

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.turns import Ratios, Turns, Way


def convert_each(sources: Sequence[Path], folder: Path) -> None:
    """Call `convert` for each file."""
    for source in sources:
        convert(source, folder / f"{source.stem}.zarr")


def convert_list(sources: Sequence[Path], folder: Path) -> None:
    """Call `convert` once for all files."""
    assert convert(list(sources), folder).complete


def convert_verified(sources: Sequence[Path], folder: Path) -> None:
    """Call `convert` once for all files, and compare each store with its source."""
    assert convert(list(sources), folder, verify=True).exit_code == 0


def write_with_xarray(sources: Sequence[Path], folder: Path) -> None:
    """Open each file with xarray and write it."""
    for source in sources:
        with xr.open_dataset(source, engine="h5netcdf") as dataset, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # consolidated metadata
            dataset.to_zarr(folder / f"{source.stem}.zarr")


WRITERS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    "convert in a loop": convert_each,
    "convert of a list": convert_list,
    "convert of a list, verified": convert_verified,
    "xarray": write_with_xarray,
}


def make_files(folder: Path, count: int) -> list[Path]:
    """Write the files, of random temperatures; return their paths."""
    numbers = np.random.default_rng(0)
    paths = []
    for file in range(count):
        paths.append(folder / f"day{file:02}.nc")
        xr.Dataset(
            {"t2m": (("time", "lat", "lon"), numbers.normal(280, 5, (8, 30, 60)).astype("f4"), {"units": "K"})},
            coords={
                "time": ("time", np.arange(8) + 8 * file, {"units": "hours since 2000-01-01"}),
                "lat": ("lat", np.linspace(-87, 87, 30), {"units": "degrees_north"}),
                "lon": ("lon", np.linspace(0, 354, 60), {"units": "degrees_east"}),
            },
            attrs={"Conventions": "CF-1.8", "title": "temperatures"},
        ).to_netcdf(
            paths[-1], engine="h5netcdf", encoding={"t2m": {"zlib": True, "shuffle": True, "chunksizes": (4, 30, 60)}}
        )
    return paths


def write_once(writer: str, sources: Sequence[Path], folder: Path) -> float:
    """Return the seconds that the conversions take."""
    target = folder / writer
    target.mkdir()
    start = perf_counter()
    WRITERS[writer](sources, target)
    seconds = perf_counter() - start
    for source in sources[::20]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # older versions of zarr warn of codecs of numcodecs
            dataset = xr.open_zarr(target / f"{source.stem}.zarr", decode_cf=False).load()
        with xr.open_dataset(source, engine="h5netcdf", decode_cf=False) as expected:
            assert dataset.equals(expected)
    shutil.rmtree(target)
    return seconds


def measure_small_files(turns: Turns) -> Ratios:
    """Measure conversions of small files, beside `open_dataset` and `to_zarr` of xarray."""
    sources = make_files(turns.folder, 2 if turns.quick else 40)
    ways: dict[str, Way] = {writer: partial(write_once, writer, sources, turns.folder) for writer in WRITERS}
    return turns.compare(ways, "xarray")
