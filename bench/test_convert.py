"""Conversions of 419 MB of 32-bit floats (gzip and shuffle, chunks of 2.6 MB) to Zarr, from the page cache."""

from __future__ import annotations

import shutil
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from bench.conftest import repeat
from bench.memory import MODES, measure, write_file
from bench.peers import PEERS, encode_bare
from h5bound import convert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.conftest import Sample


def copy_file(source: Path, target: Path) -> None:
    """Copy the HDF5 file in the kernel."""
    shutil.copyfile(source, target)


def keep(source: Path, target: Path) -> None:
    """Convert, with the encoded chunks kept."""
    convert(source, target)


def encode(source: Path, target: Path) -> None:
    """Convert, with every chunk re-encoded."""
    convert(source, target, codecs="zstd:3")


def dask_to_zarr(peer: str) -> Callable[[Path, Path], None]:
    """Return a function that writes a peer's dask array with ``to_zarr``, with zarr's default codec."""

    def write(source: Path, target: Path) -> None:
        with PEERS[peer].open(source, "x", None) as array:
            array.to_zarr(str(target), component="x")

    return write


def xarray_to_zarr(source: Path, target: Path) -> None:
    """Write with xarray's ``to_zarr``."""
    import xarray as xr

    with xr.open_dataset(source, engine="h5netcdf", chunks={}, phony_dims="sort") as dataset:
        dataset.drop_encoding().to_zarr(target, consolidated=False)


def encode_in_a_loop(source: Path, target: Path) -> None:
    """Decode, encode and write each chunk in a pool of threads."""
    encode_bare(source, "x", target)


WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "cp": copy_file,
    "h5bound keep": keep,
    "h5bound zstd": encode,
    "h5bound to_zarr": dask_to_zarr("h5bound"),
    "from_array to_zarr": dask_to_zarr("from_array"),
    "xarray to_zarr": xarray_to_zarr,
    "recipe to_zarr": dask_to_zarr("recipe"),
    "bare loop zstd": encode_in_a_loop,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_converting_a_file(benchmark: BenchmarkFixture, sample: Sample, tmp_path: Path, writer: str) -> None:
    source, target = sample.path("gzip"), tmp_path / "target"
    benchmark.extra_info.update(sample.describe("gzip"))

    def clear() -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.unlink(missing_ok=True)

    repeat(benchmark, WRITERS[writer], source, target, rounds=sample.rounds, setup=clear)
    if writer == "cp":
        assert target.read_bytes() == source.read_bytes()
    else:
        np.testing.assert_array_equal(read(target), sample.values)
    clear()


def read(target: Path) -> Any:
    """Return the values of the array in a store."""
    with warnings.catch_warnings():  # raised by zarr 3.1 for the codecs that read HDF5's chunks
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3 specification")
        array = zarr.open_group(target, mode="r")["x"]
    assert isinstance(array, zarr.Array)
    return array[...]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_memory_stays_within_two_windows(tmp_path: Path, mode: str) -> None:
    source = tmp_path / "source.h5"
    nbytes, window, block = write_file(source, 2**27, (10, 128, 128)), 8 * 2**20, 10 * 128 * 128 * 4
    peak = measure(mode, source, window)
    # What is not data (threads, codecs, modules loaded late) takes some 20 MiB, whatever the window.
    assert peak < 2 * window + 8 * block + 32 * 2**20 < nbytes
