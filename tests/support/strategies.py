"""Hypothesis strategies: chunked datasets of any shape, type, pipeline and mask, and regions of them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401 -- registers its filters with HDF5
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

Filter = tuple[int, tuple[int, ...]]

DTYPES = [
    np.dtype(spelling) for spelling in ("u1", "<i2", ">i2", "<f4", ">f8", "<u8", "?", "<c8", "S3", "S7", "V5", "f2")
] + [
    np.dtype([("a", "<i2"), ("b", "S3"), ("c", ">f8")]),
    np.dtype({"names": ["a", "b"], "formats": ["i1", "<f8"], "offsets": [0, 8], "itemsize": 16}),
    np.dtype(("<i4", (3,))),
    h5py.enum_dtype({"off": 0, "on": 1}, "<i2"),
]


@dataclass(frozen=True, slots=True)
class Case:
    """A dataset to be written."""

    shape: tuple[int, ...]
    """extent in elements"""
    chunks: tuple[int, ...]
    """extent of a chunk, which may exceed the dataset's"""
    maxshape: tuple[int | None, ...]
    """extent it may grow to"""
    dtype: np.dtype[Any]
    """type of an element"""
    filters: tuple[Filter, ...]
    """number and client data values of each filter, in order"""
    libver: str
    """the oldest file format allowed"""
    seed: int
    """of the values"""
    noise: int
    """how many values a byte may have: few compress, 256 do not"""
    skipped: dict[int, int] = field(default_factory=dict)
    """filter mask of some chunks, by their number"""
    unwritten: frozenset[int] = frozenset()
    """numbers of chunks that are not written"""
    edges_plain: bool = False
    """partial edge chunks are stored unfiltered (H5Pset_chunk_opts)"""
    userblock: int = 0
    """bytes before the file's own"""


def filter_chains(size: int) -> st.SearchStrategy[tuple[Filter, ...]]:
    """Return pipelines of the filters that h5bound decodes, and one that it does not, for elements of `size` bytes."""
    shuffle: Filter = (2, ())
    fletcher32: Filter = (3, ())
    before = st.lists(st.sampled_from([shuffle, fletcher32]), unique=True, max_size=2)
    packers = [(1, (1,)), (307, (1,)), (32000, ()), (32001, (0, 0, 0, 0, 5, 1, 1)), (32004, (64,)), (32004, ())]
    packers += [(32015, (3,)), (32008, (0, 2)), (32008, (0, 3, 1)), (32008, (64, 2)), (32008, (0, 0))]
    packers += [(32001, (0, 0, 0, 0, 3, 2, 5))]
    packer = st.none() | st.sampled_from(packers)
    after = st.none() | st.just(fletcher32)

    def chain(first: list[Filter], middle: Filter | None, last: Filter | None) -> tuple[Filter, ...]:
        found = [*first, *([middle] if middle else [])]
        return tuple(found if last is None or last in found else [*found, last])

    return st.builds(chain, before, packer, after)


def _limit(extent: int, how: str) -> int | None:
    return {"fixed": extent, "more": extent + 9, "unlimited": None}[how]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a dataset of one to three axes and at most some hundred chunks."""
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.lists(st.integers(1, 14), min_size=ndim, max_size=ndim)))
    chunks = tuple(draw(st.integers(2 if n > 4 else 1, n + 3)) for n in shape)
    growing = draw(st.lists(st.sampled_from(["fixed", "more", "unlimited"]), min_size=ndim, max_size=ndim))
    maxshape = tuple(
        _limit(n, "more" if chunk > n and how == "fixed" else how)
        for n, chunk, how in zip(shape, chunks, growing, strict=True)
    )
    dtype = draw(st.sampled_from(DTYPES))
    filters = draw(filter_chains(dtype.itemsize))
    count = int(np.prod([-(-n // c) for n, c in zip(shape, chunks, strict=True)]))
    numbers = st.integers(0, count - 1)
    masks = st.integers(0, (1 << len(filters)) - 1)
    edges_plain = draw(st.booleans())
    return Case(
        shape,
        chunks,
        maxshape,
        dtype,
        filters,
        draw(st.sampled_from(["earliest", "v110", "latest"])),
        draw(st.integers(0, 1000)),
        draw(st.sampled_from([2, 5, 256])),
        {} if edges_plain else draw(st.dictionaries(numbers, masks, max_size=3)),
        draw(st.frozensets(numbers, max_size=3)),
        edges_plain,
        draw(st.sampled_from([0, 512])),
    )


@st.composite
def regions(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Draw a region, now and then an empty one."""
    ends = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return tuple(slice(a, b) for a, b in ends)


def write_case(path: Path, case: Case) -> None:
    """Write the dataset ``x`` that a case describes; HDF5 makes every stored byte."""
    chunk_coords = _values(case)
    with h5py.File(path, "w", libver=(case.libver, "latest"), userblock_size=case.userblock) as file:
        dataset = _create(file, b"x", case, case.filters)
        counts = [-(-n // c) for n, c in zip(case.shape, case.chunks, strict=True)]
        for number in range(int(np.prod(counts))):
            if number in case.unwritten:
                continue
            origin = tuple(int(i) * c for i, c in zip(np.unravel_index(number, counts), case.chunks, strict=True))
            region = tuple(slice(o, o + c) for o, c in zip(origin, case.chunks, strict=True))
            if number in case.skipped:
                _write_masked(dataset, case, origin, chunk_coords, case.skipped[number])
            else:
                dataset[region] = chunk_coords[region]


def _values(case: Case) -> np.ndarray[Any, np.dtype[Any]]:
    base, inner = case.dtype.subdtype or (case.dtype, ())
    shape = (*case.shape, *inner)
    rng = np.random.default_rng(case.seed)
    raw = rng.integers(0, case.noise, (*shape, base.itemsize), np.uint8)
    if base.kind == "b":
        raw %= 2
    return np.ndarray(shape, base, buffer=raw)


def _create(file: h5py.File, name: bytes, case: Case, filters: tuple[Filter, ...]) -> h5py.Dataset:
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk(case.chunks)
    for number, options in filters:
        if number == 2:
            plist.set_shuffle()
        elif number == 3:
            plist.set_fletcher32()
        else:
            plist.set_filter(number, 1, options)
    if case.edges_plain:
        leave_edges_unfiltered(plist)
    limits = tuple(h5s.UNLIMITED if n is None else n for n in case.maxshape)
    kind = h5t.py_create(case.dtype, logical=True)
    return h5py.Dataset(h5d.create(file.id, name, kind, h5s.create_simple(case.shape, limits), plist))


def _write_masked(
    dataset: h5py.Dataset, case: Case, origin: tuple[int, ...], chunk_coords: np.ndarray[Any, Any], mask: int
) -> None:
    """Write one chunk that went through the filters that its mask does not name, made by HDF5 in a file of its own."""
    kept = tuple(entry for i, entry in enumerate(case.filters) if not mask >> i & 1)
    whole = Case(case.chunks, case.chunks, case.chunks, case.dtype, kept, "latest", 0, 2)
    part = chunk_coords[tuple(slice(o, o + c) for o, c in zip(origin, case.chunks, strict=True))]
    with h5py.File("one chunk", "w", driver="core", backing_store=False) as file:
        alone = _create(file, b"x", whole, kept)
        alone[tuple(slice(0, n) for n in part.shape[: len(case.chunks)])] = part
        file.flush()
        skipped, data = alone.id.read_direct_chunk((0,) * len(case.chunks))
    kept_at = [i for i in range(len(case.filters)) if not mask >> i & 1]
    mask |= sum(1 << i for position, i in enumerate(kept_at) if skipped >> position & 1)
    dataset.id.write_direct_chunk(origin, data, filter_mask=mask)


def leave_edges_unfiltered(plist: h5p.PropDCID) -> None:
    """Set H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS, for which h5py has no setter."""
    status = ctypes.CDLL(h5p.__file__).H5Pset_chunk_opts(ctypes.c_int64(plist.id), ctypes.c_uint(2))
    assert status >= 0
