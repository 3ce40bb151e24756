"""The chunk index of the most common kind, read from the file: a B-tree of version 1.

HDF5 lists its chunks with a call of Python for each, and finds them with another. Read in numpy, a level of the tree at
a time, a chunk takes a tenth of that::

    object header ─► layout message ─► root ─► nodes of each level ─► chunks

HDF5 File Format Specification, III.A.1 (B-trees), IV.A.1 (object headers), IV.A.2.i (data layout) and IV.A.2.q
(continuation). Whatever is not exactly as described there is left to HDF5.
"""

from __future__ import annotations

import math
import os
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from h5py import h5f, h5fd, h5i

from h5bound.h5py_compat import READ_ERRORS, call_getter, has_cache_image, read_address, read_driver

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from h5py import h5d
    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkGrid

    Keys = NDArray[np.int64]


LAYOUT, CONTINUATION = 8, 16
"""Types of header messages."""

MAX_HEADER_NBYTES = 1 << 20
"""Most bytes of an object header that are read."""

NODE_HEAD = 24
"""Bytes of a node before its keys."""

MAX_LEVEL_NBYTES = 1 << 20
"""Most bytes of the nodes of a level, beyond 256 for each chunk: a damaged tree may be endless."""


BATCH = 1024
"""Nodes that are in memory at once."""


class ListedChunks(NamedTuple):
    """All chunks that an index lists, in its order."""

    origins: NDArray[np.int64]
    """First element of each, a row each."""
    offsets: NDArray[np.int64]
    """Bytes from the start of the file."""
    nbytes: NDArray[np.int64]
    """Encoded bytes."""
    masks: NDArray[np.int64]
    """Filter masks."""


def read_btree(dataset: h5d.DatasetID, grid: ChunkGrid) -> ListedChunks | None:
    """Return the chunks of a dataset whose index is a B-tree of version 1; None if it is not read here.

    In the tree that is returned HDF5 finds each chunk that it lists: all keys are in order, in each node and across
    levels. Of any other tree, and of a file that HDF5 does not read through a plain descriptor, return None.
    """
    file = h5i.get_file_id(dataset)
    entries, address = count_entries(file.id), read_address(dataset)
    if entries is None or address is None:
        return None
    try:
        descriptor = file.get_vfd_handle()
        layout = _read_layout(descriptor, address, len(grid.chunks))
        if layout is None or layout.sizes[:-1] != grid.chunks:
            return None
        return _read_levels(descriptor, layout, most=math.prod(grid.counts), entries=entries)
    except (struct.error, *READ_ERRORS):
        return None


@lru_cache(64)
def count_entries(number: int) -> int | None:
    """Return the most children of a node in the file of a number (``file.id.id``); None if trees are left to HDF5.

    HDF5 never reuses the number of a file.
    """
    file = h5f.FileID(number)
    h5i.inc_ref(file)  # for `file`, which gives it back
    plist = file.get_create_plist()
    plain = read_driver(file) == h5fd.SEC2 and file.get_intent() == h5f.ACC_RDONLY
    plain = plain and hasattr(os, "pread")  # Windows has none
    if not plain or plist.get_userblock() or plist.get_sizes() != (8, 8) or has_cache_image(file):
        return None
    half = call_getter("H5Pget_istore_k", plist)
    return None if half is None else 2 * half


class Layout(NamedTuple):
    """The layout message of a chunked dataset."""

    root: int
    """Address of the root of the tree."""
    sizes: tuple[int, ...]
    """Shape of a chunk, and bytes of an element: units of the keys."""


def _read_layout(descriptor: int, address: int, rank: int) -> Layout | None:
    """Return the layout from the object header of a dataset; None if it is not of version 3."""
    for kind, body in _read_messages(descriptor, address):
        if kind == LAYOUT:
            *found, root = struct.unpack_from("<BBBQ", body)
            return Layout(root, struct.unpack_from(f"<{rank + 1}I", body, 11)) if found == [3, 2, rank + 1] else None
    return None


def _read_messages(descriptor: int, address: int) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the content of each message of an object header."""
    start = os.pread(descriptor, 64, address)
    if start[:4] == b"OHDR":
        flags = start[5]
        place, width = 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1), 1 << (flags & 3)
        size = int.from_bytes(start[place : place + width], "little")
        head, trim, blocks = "<BHB" + "xx" * (flags >> 2 & 1), 4, [(address + place + width, size)]
    elif start[0] == 1:
        head, trim, blocks = "<HHB3x", 0, [(address + 16, struct.unpack_from("<I", start, 8)[0])]
    else:
        return
    left = MAX_HEADER_NBYTES
    while blocks:
        offset, size = blocks.pop()
        left -= size + 1
        if left < 0:
            return
        data, place = os.pread(descriptor, size, offset), 0
        while place + struct.calcsize(head) <= len(data):
            kind, nbytes, _ = struct.unpack_from(head, data, place)
            place += struct.calcsize(head)
            body = data[place : place + nbytes]
            place += nbytes
            if kind == CONTINUATION:
                offset, size = struct.unpack("<QQ", body[:16])
                blocks.append((offset + trim, size - 2 * trim))  # after a signature, before a checksum
            else:
                yield kind, body


class Nodes(NamedTuple):
    """The entries of some nodes of one level."""

    low: Keys
    """Least key of each."""
    high: Keys
    """Key that is greater than all of it."""
    children: NDArray[np.int64]
    """Address of each; negative where there is none."""
    nbytes: NDArray[np.int64]
    """Encoded bytes of a chunk."""
    masks: NDArray[np.int64]
    """Filter mask of a chunk."""


def _read_levels(descriptor: int, layout: Layout, *, most: int, entries: int) -> ListedChunks | None:
    """Return the chunks of a tree, if they are not more than `most`; `entries` are the most children of a node."""
    units = np.array(layout.sizes, np.int64)
    if not units.all():
        return None
    size = NODE_HEAD + (entries + 1) * _key(len(units)).itemsize  # the last key is followed by no child
    addresses, level, around = [layout.root], _read_nodes(descriptor, [layout.root], size)[0, 5], None
    while len(addresses) <= most and len(addresses) * size <= MAX_LEVEL_NBYTES + 256 * most:
        nodes, stop = _make_nodes(len(addresses) * entries, len(units), high=bool(level)), 0
        for start in range(0, len(addresses), BATCH):
            batch = slice(start, start + BATCH)
            bounds = None if around is None else (around[0][batch], around[1][batch])
            part = _parse_nodes(_read_nodes(descriptor, addresses[batch], size), level, units=units, around=bounds)
            if part is None:
                return None
            first, stop = stop, stop + len(part.low)
            for column, values in zip(nodes, part, strict=True):
                column[first:stop] = values
        nodes = Nodes(*(column[:stop] for column in nodes))
        if not level:
            listed = ListedChunks(nodes.low[:, :-1], *nodes[2:])
            return None if nodes.low[:, -1].any() or (listed.offsets < 0).any() else listed
        addresses, level, around = nodes.children.tolist(), level - 1, nodes[:2]
    return None


def _make_nodes(count: int, rank: int, *, high: bool) -> Nodes:
    """Return room for entries. Memory that is not written to takes none."""
    numbers = (np.empty(count, np.int64) for _ in range(3))
    return Nodes(np.empty((count, rank), np.int64), np.empty((count if high else 0, rank), np.int64), *numbers)


def _read_nodes(descriptor: int, addresses: Sequence[int], size: int) -> NDArray[np.uint8]:
    """Return the bytes of nodes, a row each; zeros after the end of the file."""
    data = b"".join([os.pread(descriptor, size, address).ljust(size, b"\0") for address in addresses])
    return np.frombuffer(data, np.uint8).reshape(-1, size)


def _key(rank: int) -> np.dtype[Any]:
    """Return the type of a key, and the address of the child after it; `rank` counts the axis of an element's bytes."""
    return np.dtype([("nbytes", "<u4"), ("mask", "<u4"), ("origin", "<i8", (rank,)), ("child", "<u8")])


def _parse_nodes(
    table: NDArray[np.uint8], level: int, *, units: NDArray[np.int64], around: tuple[Keys, Keys] | None
) -> Nodes | None:
    """Return the entries of nodes of a level; None if they are not in order, or not in the bounds of each node."""
    keys = np.ascontiguousarray(table[:, NODE_HEAD:]).view(_key(len(units)))
    entries = keys.shape[1] - 1
    used = np.ascontiguousarray(table[:, 6:8]).view("<u2").astype(np.int64)
    if (table[:, :6] != [*b"TREE", 1, level]).any() or not used.all() or (used > entries).any():
        return None
    inner = np.arange(entries) < used
    left, right = keys["origin"][:, :-1], keys["origin"][:, 1:]
    low, high = left[inner], right[inner]
    if (low < 0).any() or (low % units).any() or (high % units).any() or not _less(low, high).all():
        return None
    if around is not None:
        last = np.take_along_axis(left, used[..., None] - 1, axis=1)[:, 0]
        if _less(left[:, 0], around[0]).any() or not _less(last, around[1]).all():
            return None
    numbers = (keys[name][:, :-1][inner].astype(np.int64) for name in ("child", "nbytes", "mask"))
    return Nodes(low, high if level else high[:0], *numbers)


def _less(one: Keys, other: Keys) -> NDArray[np.bool_]:
    """Return which keys come before others, as HDF5 compares them: axis by axis."""
    less, same = np.zeros(one.shape[:-1], bool), np.ones(one.shape[:-1], bool)
    for axis in range(one.shape[-1]):
        less |= same & (one[..., axis] < other[..., axis])
        same &= one[..., axis] == other[..., axis]
    return less
