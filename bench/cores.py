"""How many cores a compute or a conversion can use: what it does one thread at a time, as a part of its process time.

Python runs in one thread at a time, the one that has the GIL; reading, decoding, encoding and sums release it. A
preloaded library (``released.c``) counts the time without it. Where a tenth of the time is with the GIL, no number of
cores makes it more than ten times as fast. It needs a C compiler, and a Python that is a shared library.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sysconfig
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import dask

import h5bound
from bench.samples import Sample, make_sample
from bench.turns import call_alone
from h5bound.chunk_grid import ChunkGrid
from h5bound.hdf5.chunk_index import index_chunks
from h5bound.reader.open_file import open_dataset
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.turns import Ratios, Turns

CAN_COUNT = bool(shutil.which("cc") and sysconfig.get_config_var("Py_ENABLE_SHARED"))

LIBRARY = "LD_PRELOAD"


def build_counter(folder: Path) -> Path:
    """Compile the library; return its path."""
    library = folder / "released.so"
    source = Path(__file__).with_name("released.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def measure_function(function: Callable[[], object]) -> float:
    """Return the process time of a function in units of its time with the GIL, on one thread of dask."""
    released = ctypes.CDLL(None).released_ns
    released.restype = ctypes.c_longlong
    times: list[float] = []
    held: list[float] = []
    with dask.config.set(scheduler="threads", num_workers=1):
        function()
        for _ in range(3):
            before, start = released(), process_time()
            function()
            times.append(process_time() - start)
            held.append(times[-1] - (released() - before) / 1e9)
    return median(times) / median(held)


def sum_all(path: Path) -> None:
    """Sum a dataset in default blocks."""
    h5bound.from_hdf5(path, "x").sum().compute()


def convert(path: Path, **options: Any) -> None:
    """Convert a file."""
    h5bound.convert(path, path.with_suffix(".zarr"), overwrite=True, **options)


def verify(path: Path) -> None:
    """Verify what `convert` wrote."""
    assert h5bound.verify(path, path.with_suffix(".zarr")).equal


def list_cases(sample: Sample) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is measured."""
    for codec in ("gzip", "zstd", "none"):
        yield f"sum, 2.6 MB, {codec}", partial(sum_all, sample.path(codec))
    for name, edge in {"104 KiB": 163, "16 KiB": 64}.items():
        folder = sample.folder / f"edge-{edge}"
        folder.mkdir(exist_ok=True)
        small = Sample(
            folder, sample.values[: len(sample.values) // 6], (1, *(min(edge, n) for n in sample.chunks[1:]))
        )
        for codec in ("gzip", "none"):
            yield f"sum, {name}, {codec}", partial(sum_all, small.path(codec))
    source = sample.path("gzip")
    yield "convert", partial(convert, source)
    yield "convert --codecs zstd:3", partial(convert, source, codecs="zstd:3")
    yield "verify", partial(verify, source)
    slabs = (1, *sample.values.shape[1:])
    yield "convert --chunks of one step", partial(convert, source, codecs="zstd:3", chunks=slabs)


def measure_cores(turns: Turns) -> Ratios:
    """Measure how many cores Python's lock, and HDF5's, let each case use; nothing where it cannot be counted."""
    sample = make_sample(turns.folder, quick=turns.quick)
    ratios = {f"HDF5's lock, {codec}": measure_lock(sample.path(codec)) for codec in ("gzip", "none")}
    if not CAN_COUNT:
        return ratios
    before = os.environ.get(LIBRARY, "")
    os.environ[LIBRARY] = str(build_counter(turns.folder))
    try:
        for name, function in list_cases(sample):
            if not turns.quick or name == "convert":
                ratios[name] = call_alone(measure_function, function)
    finally:
        os.environ[LIBRARY] = before
    return ratios


def measure_lock(path: Path) -> float:
    """Return the time of a sum in units of what it asks HDF5, all of which counts as time under HDF5's lock."""
    total = h5bound.from_hdf5(path, "x").sum()
    total.compute(scheduler="sync")
    start = perf_counter()
    total.compute(scheduler="sync")
    alone = perf_counter() - start
    start = perf_counter()
    for _ in range(5):
        ask_hdf5(path, "x")
    return alone / (perf_counter() - start) * 5


def ask_hdf5(path: Path, name: str) -> None:
    """Call HDF5 as a compute does, and nothing else; some of this is Python."""
    source = H5Source.of(path)
    opened = source.open()
    try:
        dataset = open_dataset(opened.file, name)
        opened.reader(name)
        assert index_chunks(dataset.id, ChunkGrid(dataset.shape, dataset.chunks)) is not None
    finally:
        source.check(opened)
        source.close(opened)
