"""Datasets as frozen records: shape, type and storage. No data is read, and no other file is opened."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h5py import h5d, h5ds, h5f, h5g, h5i, h5o, h5p, h5s

from h5bound.chunk_grid import count_chunks
from h5bound.codecs.pipeline import Filter
from h5bound.errors import UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, call_getter, describe
from h5bound.hdf5.datatypes import read_type
from h5bound.hdf5.element_types import read_dtype
from h5bound.hdf5.external_files import is_itself
from h5bound.hdf5.links import LinkRecord, decode_name, encode_name, follow_path

if TYPE_CHECKING:
    import h5py
    import numpy as np


MAX_SLOTS = 50_000_000
"""Slots in the chunk indexes of one file that HDF5 may read to count the stored chunks (takes about 4 s)."""

LAYOUTS = {h5d.CHUNKED: "chunked", h5d.CONTIGUOUS: "contiguous", h5d.COMPACT: "compact", h5d.VIRTUAL: "virtual"}

BTREE_1, SINGLE, BTREE_2 = 0, 1, 5  # H5D_chunk_index_t: the chunk indexes that hold the stored chunks only
DONT_FILTER_PARTIAL_CHUNKS = 2  # H5Dpublic.h


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """Shape, type and storage of a dataset."""

    path: str
    """Path with a leading slash."""
    shape: tuple[int, ...] | None
    """Shape in elements, None for a null dataspace. Where a virtual dataset grows with sources in other files: the
    shape as stored, which may be less than that of h5py (see `read_dataset`)."""
    dtype: np.dtype | None
    """Type as h5py reads it, None if it cannot."""
    layout: str
    """chunked, contiguous, compact, virtual or external."""
    chunks: tuple[int, ...] | None
    """Shape of a chunk, None unless chunked."""
    filters: tuple[Filter, ...]
    """Filters in the order in which they were applied on writing."""
    stored_nbytes: int
    """Encoded bytes of the values in the file (external: in the external files; virtual: 0)."""
    stored_chunks: int
    """Chunks that have been written; 0 unless chunked."""
    edge_unfiltered: bool | None
    """Whether chunks that extend past the shape are stored unfiltered, None if unknown."""
    problem: str | None
    """Why it cannot be read, except for missing filters; None if it can."""
    external_files: tuple[str, ...]
    """Names of other files that a read would open (perhaps with ``%b``), also those that sources in this file need."""
    is_scale: bool = False
    """Whether it is a dimension scale."""


def read_dataset(dataset: h5py.Dataset, *, open_sources: bool = False, count: bool = True) -> DatasetRecord:
    """Return the record of an open dataset, with the path by which it was opened.

    With `open_sources`, the files of a virtual dataset may be opened to find the shape that h5py gives it. With
    `count`, stored chunks are counted, for which HDF5 reads the whole chunk index; else their number is 0.

    Raise UnsupportedError if the metadata cannot be read.
    """
    path = os.fsdecode(dataset.name)
    try:
        return read_record(dataset.id, path, MAX_SLOTS if count else None, open_sources=open_sources)[0]
    except READ_ERRORS as error:
        raise UnsupportedError(f"{path!r} in {dataset.file.filename}: {describe(error)}") from error


def read_filters(dataset: h5d.DatasetID, plist: h5p.PropDCID | None = None) -> tuple[Filter, ...]:
    """Return the filters of an open dataset, in the order in which they are applied on writing.

    `plist` are its creation properties, if the caller has them.
    """
    plist = dataset.get_create_plist() if plist is None else plist
    filters = map(plist.get_filter, range(plist.get_nfilters()))
    return tuple(
        Filter(id=number, flags=flags, options=tuple(options), name=decode_name(name))
        for number, flags, options, name in filters
    )


def read_edge_unfiltered(plist: h5p.PropDCID, shape: tuple[int, ...], chunks: tuple[int, ...]) -> bool | None:
    """Return whether chunks that extend past the shape are stored unfiltered, None if unknown.

    See H5Pset_chunk_opts, H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS: the masks of such chunks do not record it.
    """
    if not any(extent % chunk for extent, chunk in zip(shape, chunks, strict=True)):
        return False
    options = call_getter("H5Pget_chunk_opts", plist)
    return None if options is None else bool(options & DONT_FILTER_PARTIAL_CHUNKS)


def read_record(
    dataset: h5d.DatasetID, path: str, slots_left: int | None, *, open_sources: bool = False
) -> tuple[DatasetRecord, int]:
    """Return a dataset's record, and how many slots of its chunk index HDF5 read to count its chunks.

    At most `slots_left` slots are read; with None, chunks are not counted.
    """
    plist = dataset.get_create_plist()
    layout = "external" if plist.get_external_count() else LAYOUTS[plist.get_layout()]
    external_files = _list_external_files(dataset, plist) if layout in ("virtual", "external") else ()
    # H5Dget_space opens the sources that a virtual dataset grows with; its mappings know the stored shape.
    use_stored_shape = layout == "virtual" and external_files and not open_sources
    space = plist.get_virtual_vspace(0) if use_stored_shape else dataset.get_space()
    is_null = space.get_simple_extent_type() == h5s.NULL
    shape = None if is_null else tuple(map(int, space.get_simple_extent_dims()))
    chunks = tuple(map(int, plist.get_chunk())) if layout == "chunked" else None
    dtype, problem = _read_dtype(dataset)
    slots = _count_slots(dataset, shape, chunks) if chunks and shape and slots_left is not None else 0
    if slots_left is not None and slots > slots_left and not h5o.get_info(dataset).meta_size.obj.index_size:
        slots = 0  # nothing was ever written, so there is no index
    stored_chunks = stored_nbytes = 0
    if slots_left is not None and slots > slots_left:
        problem = problem or f"to count its stored chunks, HDF5 would have to read {slots:,} slots of its chunk index"
        slots = 0
    elif slots_left is not None and layout != "virtual":
        stored_chunks = dataset.get_num_chunks() if chunks else 0
        stored_nbytes = dataset.get_storage_size()
    filters = read_filters(dataset, plist) if chunks else ()
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
        external_files=external_files,
        is_scale=_is_scale(dataset),
    )
    return record, slots


def _read_dtype(dataset: h5d.DatasetID) -> tuple[np.dtype | None, str | None]:
    """Return the type, or why it cannot be read."""
    try:
        dtype = read_dtype(read_type(dataset))
    except UnsupportedError as error:
        return None, str(error)
    except READ_ERRORS as error:
        return None, f"h5py cannot read its type: {describe(error)}"
    return dtype, None


def _is_scale(dataset: h5d.DatasetID) -> bool:
    try:
        return bool(h5ds.is_scale(dataset))
    except READ_ERRORS:  # its attributes are damaged
        return False


def _list_external_files(dataset: h5d.DatasetID, plist: h5p.PropDCID) -> tuple[str, ...]:
    """Return the files of external storage and of virtual sources, also those that sources in this file need."""
    file_id = h5i.get_file_id(dataset)
    root, main = h5g.open(file_id, b"/"), decode_name(h5f.get_name(file_id))
    files: dict[str, None] = {}
    sources: set[str] = set()
    pending = [plist]
    while pending:
        plist = pending.pop()
        files |= dict.fromkeys(decode_name(plist.get_external(i)[0]) for i in range(plist.get_external_count()))
        count = plist.get_virtual_count() if plist.get_layout() == h5d.VIRTUAL else 0
        if count:
            from h5bound.hdf5.virtual_mappings import is_empty
        for i in range(count):
            file, source = plist.get_virtual_filename(i), plist.get_virtual_dsetname(i)
            if file in files or is_empty(plist.get_virtual_vspace(i)):
                continue
            if not is_itself(main, file):
                files[file] = None
            elif source not in sources:
                sources.add(source)
                pending += _follow_source(root, source, files)
    return tuple(files)


def _follow_source(root: h5g.GroupID, source: str, files: dict[str, None]) -> list[h5p.PropDCID]:
    """Return the creation properties of a virtual source in this file; add the file of an external link to `files`."""
    if "%" in source:  # a pattern for any number of names, each of which may be a link
        files[f".:{source}"] = None
        return []
    try:
        item, _ = follow_path(root, encode_name(source))
    except READ_ERRORS:  # a read would not open it either
        return []
    if isinstance(item, LinkRecord):
        files[item.file or item.to] = None
    return [item.get_create_plist()] if isinstance(item, h5d.DatasetID) else []


def _count_slots(dataset: h5d.DatasetID, shape: tuple[int, ...], chunks: tuple[int, ...]) -> int:
    """Return the number of index slots read beyond the stored chunks when HDF5 counts them.

    B-trees hold the stored chunks only; the arrays of later file formats have a slot for each declared chunk.
    """
    if call_getter("H5Dget_chunk_index_type", dataset) in (BTREE_1, SINGLE, BTREE_2):
        return 0
    return math.prod(count_chunks(shape, chunks))
