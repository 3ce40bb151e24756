"""Conversions of 32-bit floats (gzip and shuffle, chunks of 2.6 MB) to Zarr, from the page cache, beside a copy."""

from __future__ import annotations

import shutil
import warnings
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.peers import PEERS, encode_bare
from bench.samples import make_sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.turns import Ratios, Turns, Way

REFERENCE = "cp"


def keep(source: Path, target: Path) -> None:
    """Convert, with the encoded chunks kept."""
    from h5bound import convert

    convert(source, target)


def encode(source: Path, target: Path) -> None:
    """Convert, with every chunk re-encoded."""
    from h5bound import convert

    convert(source, target, codecs="zstd:3")


def dask_to_zarr(peer: str, source: Path, target: Path) -> None:
    """Write a peer's dask array with ``to_zarr``, with zarr's default codec."""
    with PEERS[peer].open(source, "x", None) as array:
        array.to_zarr(str(target), component="x")


def xarray_to_zarr(source: Path, target: Path) -> None:
    """Write with xarray's ``to_zarr``."""
    import xarray as xr

    with xr.open_dataset(source, engine="h5netcdf", chunks={}, phony_dims="sort") as dataset:
        dataset.drop_encoding().to_zarr(target, consolidated=False)


def encode_in_a_loop(source: Path, target: Path) -> None:
    """Decode, encode and write each chunk in a pool of threads."""
    encode_bare(source, "x", target)


def copy_file(source: Path, target: Path) -> None:
    """Copy the file in the kernel."""
    target.mkdir()
    shutil.copyfile(source, target / "x.h5")


WRITERS: dict[str, Callable[[Path, Path], None]] = {
    REFERENCE: copy_file,
    "h5bound convert": keep,
    "h5bound convert --codecs zstd:3": encode,
    "h5bound, to_zarr": partial(dask_to_zarr, "h5bound"),
    "from_array, to_zarr": partial(dask_to_zarr, "from_array"),
    "xarray, to_zarr": xarray_to_zarr,
    "recipe, to_zarr": partial(dask_to_zarr, "recipe"),
    "bare loop, zstd:3": encode_in_a_loop,
}


def write_once(writer: str, source: Path, folder: Path, expected: float) -> float:
    """Return the seconds that a conversion takes."""
    target = folder / f"{writer}.zarr"
    start = perf_counter()
    WRITERS[writer](source, target)
    seconds = perf_counter() - start
    if writer != REFERENCE:
        assert read(target).sum(dtype=np.float64) == expected, writer
    shutil.rmtree(target)
    return seconds


def read(target: Path) -> Any:
    """Return the values of the array in a store."""
    import zarr

    with warnings.catch_warnings():  # raised by zarr 3.1 for the codecs that read HDF5's chunks
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3 specification")
        array: Any = zarr.open_group(target, mode="r")["x"]
    return array[...]


def measure_conversions(turns: Turns) -> Ratios:
    """Measure conversions of one file: how many times as fast as a copy of it."""
    sample = make_sample(turns.folder, quick=turns.quick)
    source = sample.path("gzip")
    ways: dict[str, Way] = {
        writer: partial(write_once, writer, source, turns.folder, sample.total) for writer in WRITERS
    }
    return turns.compare(ways, REFERENCE)
