"""HDF5 files that are read as Zarr stores, beside the converted store: 32-bit floats, gzip and shuffle, cached."""

from __future__ import annotations

import warnings
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

import h5bound
from bench.samples import make_sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.turns import Ratios, Turns

REFERENCE = "converted"


def open_converted(path: Path) -> Any:
    """Return the converted store, which is there already."""
    return path.with_suffix(".zarr")


def open_virtualizarr(path: Path) -> Any:
    """Return the store of VirtualiZarr's manifest of the file."""
    registry = import_module("obspec_utils.registry").ObjectStoreRegistry
    local = import_module("obstore.store").LocalStore()
    return import_module("virtualizarr.parsers").HDFParser()(
        url=f"file://{path}", registry=registry({"file://": local})
    )


def open_references(refs: dict[str, Any]) -> Any:
    """Return the store that fsspec makes of references."""
    system = import_module("fsspec").filesystem("reference", fo=refs, asynchronous=True, remote_protocol="file")
    return zarr.storage.FsspecStore(system, read_only=True)


def open_kerchunk(path: Path) -> Any:
    """Return the store that kerchunk's references to the file make."""
    return open_references(import_module("kerchunk.hdf").SingleHdf5ToZarr(str(path)).translate())


OPENERS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    REFERENCE: (open_converted, ()),
    "h5bound": (h5bound.ZarrStore, ()),
    "h5bound, references": (lambda path: open_references(h5bound.references(path)), ()),
    "virtualizarr": (open_virtualizarr, ("virtualizarr", "obstore", "obspec_utils")),
    "kerchunk": (open_kerchunk, ("kerchunk",)),
}
"""Functions that return the store of a file, and the modules that they need."""


def open_array(opener: str, path: Path) -> Any:
    """Return the array of a file."""
    warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3 specification")
    return zarr.open_group(OPENERS[opener][0](path), mode="r")["x"]


def time_open(opener: str, path: Path, expected: float) -> float:
    """Return the seconds that opening a file and reading one element take."""
    start = perf_counter()
    element = open_array(opener, path)[1, 2, 3]
    seconds = perf_counter() - start
    assert element == expected, opener
    return seconds


def time_whole(opener: str, path: Path, expected: float) -> float:
    """Return the seconds that reading the whole array takes."""
    array = open_array(opener, path)
    start = perf_counter()
    values = array[:]
    seconds = perf_counter() - start
    assert float(values.sum(dtype=np.float64)) == expected, opener
    return seconds


def measure_views(turns: Turns) -> Ratios:
    """Measure how many times as fast as the converted store files are that are read as stores."""
    sample = make_sample(turns.folder, quick=turns.quick)
    path = sample.path("gzip")
    if not open_converted(path).exists():
        h5bound.convert(path, open_converted(path))
    openers = [name for name, (_, modules) in OPENERS.items() if all(map(find_spec, modules))]
    cases: dict[str, tuple[Callable[[str, Path, float], float], float]] = {
        "open, one element": (time_open, float(sample.values[1, 2, 3])),
        "whole": (time_whole, sample.total),
    }
    return {
        f"{case}: {name}": ratio
        for case, (function, expected) in cases.items()
        for name, ratio in turns.compare(
            {name: partial(function, name, path, expected) for name in openers}, REFERENCE, rounds=5
        ).items()
    }
