"""Datasets as frozen records: shape, type, and how each is stored. No data is read, and no other file is opened."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h5py import h5d, h5g, h5i, h5p, h5s

from h5bound.codecs.filters import Filter
from h5bound.errors import UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, call_getter, describe
from h5bound.hdf5.datatypes import check_depth
from h5bound.hdf5.links import LinkRecord, decode_name, follow_path

if TYPE_CHECKING:
    import h5py
    import numpy as np


MAX_SLOTS = 50_000_000
"""AttributeBuilder in the chunk indexes of one file that are looked at to count its stored chunks (takes about 4 s)."""

LAYOUTS = {
    h5d.CHUNKED: "chunked",
    h5d.CONTIGUOUS: "contiguous",
    h5d.COMPACT: "compact",
    h5d.VIRTUAL: "virtual",
}

BTREE_1, SINGLE, BTREE_2 = 0, 1, 5  # H5D_chunk_index_t: the chunk indexes that hold the stored chunks only

DONT_FILTER_PARTIAL_CHUNKS = 2  # H5Dpublic.h


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A dataset: its shape, its type, and how it is stored."""

    path: str
    """Begins with a slash."""
    shape: tuple[int, ...] | None
    """None for a null dataspace. Where a virtual dataset grows with sources in other files: as it stands in
    this file, which may be less than h5py says (see `read_dataset`)."""
    dtype: np.dtype | None
    """As h5py gives it, None where h5py has none."""
    layout: str
    """chunked, contiguous, compact, virtual or external."""
    chunks: tuple[int, ...] | None
    """Shape of a chunk, None unless chunked."""
    filters: tuple[Filter, ...]
    """In the order in which they were applied when the chunk was written."""
    stored_nbytes: int
    """Bytes that its values take in the file (external: in the external files; virtual: 0)."""
    stored_chunks: int
    """Chunks that have been written; 0 unless chunked."""
    edge_unfiltered: bool | None
    """True if chunks that the shape cuts off are stored unfiltered, None if that cannot be found out."""
    problem: str | None
    """Why it cannot be read (missing filters apart), else None."""
    outside: tuple[str, ...]
    """Other files that a read would open, as stored (maybe with ``%b``), through sources in this file too."""


def read_dataset(dataset: h5py.Dataset, *, open_sources: bool = False, count: bool = True) -> DatasetRecord:
    """Give the record of one open dataset, under the path by which it was opened.

    Parameters
    ----------
    dataset
        Stays open.
    open_sources
        Whether the files that a virtual dataset names may be opened, to find the shape that h5py gives it.
    count
        Whether its stored chunks are counted, for which HDF5 reads all of their index; else there are none.

    Raises
    ------
    UnsupportedError
        Its metadata cannot be read.
    """
    path = os.fsdecode(dataset.name)
    try:
        return read_record(dataset.id, path, MAX_SLOTS if count else None, open_sources=open_sources)[0]
    except READ_ERRORS as error:
        raise UnsupportedError(f"{path!r} in {dataset.file.filename}: {describe(error)}") from error


def read_filters(dataset: h5py.Dataset) -> tuple[Filter, ...]:
    """Give the filter pipeline of an open dataset, in the order of writing."""
    return _read_filters(dataset.id.get_create_plist())


def read_edge_unfiltered(plist: h5p.PropDCID, shape: tuple[int, ...], chunks: tuple[int, ...]) -> bool | None:
    """Give whether the chunks that a shape cuts off are stored unfiltered, None if that cannot be found out.

    See H5Pset_chunk_opts, H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS: their filter mask does not say it.
    """
    if not any(extent % chunk for extent, chunk in zip(shape, chunks, strict=True)):
        return False
    options = call_getter("H5Pget_chunk_opts", plist)
    return None if options is None else bool(options & DONT_FILTER_PARTIAL_CHUNKS)


def read_record(
    dataset: h5d.DatasetID, path: str, slots_left: int | None, *, open_sources: bool = False
) -> tuple[DatasetRecord, int]:
    """Give a dataset's record, and how many places of its chunk index were looked at to count its chunks.

    With None for the places that may be looked at, its chunks are not counted.
    """
    plist = dataset.get_create_plist()
    layout = "external" if plist.get_external_count() else LAYOUTS[plist.get_layout()]
    outside = _list_outside(dataset, plist) if layout in ("virtual", "external") else ()
    # H5Dget_space opens the sources that a virtual dataset grows with; its mappings know the stored shape.
    alone = layout == "virtual" and outside and not open_sources
    shape = _read_shape(plist.get_virtual_vspace(0) if alone else dataset.get_space())
    chunks = tuple(map(int, plist.get_chunk())) if layout == "chunked" else None
    dtype, problem = _read_dtype(dataset)
    slots = _count_slots(dataset, shape, chunks) if chunks and shape and slots_left is not None else 0
    stored_chunks = stored_nbytes = 0
    if slots_left is not None and slots > slots_left:
        problem = problem or f"to find its stored chunks, {slots:,} places in its index would have to be looked at"
        slots = 0
    elif slots_left is not None and layout != "virtual":
        stored_chunks = dataset.get_num_chunks() if chunks else 0
        stored_nbytes = dataset.get_storage_size()
    filters = _read_filters(plist) if chunks else ()
    record = DatasetRecord(
        path=path,
        shape=shape,
        dtype=dtype,
        layout=layout,
        chunks=chunks,
        filters=filters,
        stored_nbytes=stored_nbytes,
        stored_chunks=stored_chunks,
        edge_unfiltered=read_edge_unfiltered(plist, shape, chunks) if filters and chunks and shape else False,
        problem=problem,
        outside=outside,
    )
    return record, slots


def _read_shape(space: h5s.SpaceID) -> tuple[int, ...] | None:
    if space.get_simple_extent_type() == h5s.NULL:
        return None
    return tuple(map(int, space.get_simple_extent_dims()))


def _read_dtype(dataset: h5d.DatasetID) -> tuple[np.dtype | None, str | None]:
    try:
        check_depth(dataset.get_type())
        dtype = dataset.dtype
    except UnsupportedError as error:
        return None, str(error)
    except READ_ERRORS as error:
        return None, f"h5py cannot read its type: {describe(error)}"
    return dtype, None


def _read_filters(plist: h5p.PropDCID) -> tuple[Filter, ...]:
    found = map(plist.get_filter, range(plist.get_nfilters()))
    return tuple(Filter(code, flags, tuple(options), decode_name(name)) for code, flags, options, name in found)


def _list_outside(dataset: h5d.DatasetID, plist: h5p.PropDCID) -> tuple[str, ...]:
    """Give the files that external storage and virtual sources name, through all sources inside this file."""
    root = h5g.open(h5i.get_file_id(dataset), b"/")
    files: dict[str, None] = {}
    sources: set[str] = set()
    pending = [plist]
    while pending:
        plist = pending.pop()
        files |= dict.fromkeys(decode_name(plist.get_external(i)[0]) for i in range(plist.get_external_count()))
        count = plist.get_virtual_count() if plist.get_layout() == h5d.VIRTUAL else 0
        for i in range(count):
            file, source = plist.get_virtual_filename(i), plist.get_virtual_dsetname(i)
            if file != ".":
                files[file] = None
            elif source not in sources:
                sources.add(source)
                pending += _follow_source(root, source, files)
    return tuple(files)


def _follow_source(root: h5g.GroupID, source: str, files: dict[str, None]) -> list[h5p.PropDCID]:
    """Give the creation properties of a virtual source in this file; add a link out of it to `files`."""
    if "%" in source:  # a pattern for any number of names, each of which may be a link
        files[f".:{source}"] = None
        return []
    try:
        found, _ = follow_path(root, source.encode("utf-8", "surrogateescape"))
    except READ_ERRORS:  # nothing that a read could open
        return []
    if isinstance(found, LinkRecord):
        files[found.file or found.to] = None
    return [found.get_create_plist()] if isinstance(found, h5d.DatasetID) else []


def _count_slots(dataset: h5d.DatasetID, shape: tuple[int, ...], chunks: tuple[int, ...]) -> int:
    """Give how many places HDF5 looks at to count the stored chunks, beyond these chunks themselves.

    B-trees hold the stored chunks only; the arrays of later file formats have a place for each declared one.
    """
    if call_getter("H5Dget_chunk_index_type", dataset) in (BTREE_1, SINGLE, BTREE_2):
        return 0
    return math.prod(-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True))
