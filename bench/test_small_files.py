"""Conversions of 40 small files: netCDF-4 as xarray writes it, 4 variables and 60 kB each, from the page cache."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr
from zarr.errors import ZarrUserWarning

from bench.conftest import repeat
from h5bound import convert

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture


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


WRITERS = {
    "convert in a loop": convert_each,
    "convert of a list": convert_list,
    "convert of a list, verified": convert_verified,
    "xarray": write_with_xarray,
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, *, timed: bool) -> list[Path]:
    """Write the files, of random temperatures."""
    directory = tmp_path_factory.mktemp("small")
    numbers = np.random.default_rng(0)
    paths = []
    for file in range(40 if timed else 3):
        paths.append(directory / f"day{file:02}.nc")
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


@pytest.mark.parametrize("writer", WRITERS)
def test_small_files(
    benchmark: BenchmarkFixture, sources: list[Path], tmp_path: Path, writer: str, *, timed: bool
) -> None:
    write: Callable[[Sequence[Path], Path], None] = WRITERS[writer]
    rounds = iter(range(1000))

    def run() -> Path:
        folder = tmp_path / str(next(rounds))
        folder.mkdir()
        write(sources, folder)
        return folder

    folder = repeat(benchmark, run, rounds=7 if timed else 1)
    for source in sources[::20]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)  # older versions warn of codecs of numcodecs
            dataset = xr.open_zarr(folder / f"{source.stem}.zarr", decode_cf=False).load()
        with xr.open_dataset(source, engine="h5netcdf", decode_cf=False) as expected:
            assert dataset.equals(expected)
