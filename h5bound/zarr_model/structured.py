"""HDF5 compounds as packed numpy structures that zarr-python 3.1 and 3.4 can hold, and their values.

- Zarr v3 has no byte order in its data types, only in the ``bytes`` codec, and zarr 3.1 leaves that out for
  compounds: members are little-endian there. Zarr v2 spells the order of each member, and keeps it.
- Neither has padding or members that are arrays, and zarr 3.1 cannot open a nested compound of format 2: such
  members are raw bytes, packed and in the stored byte order.
- Variable-length strings and object references become fixed-length UTF-32, as anndata stores them, of the
  longest length in the dataset: for that the dataset is read once.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import h5py
import numpy as np
from h5py import h5t

from h5bound.errors import UnsupportedError
from h5bound.hdf5.references import ReferencePaths, Resolve
from h5bound.reader.dataset_reader import DatasetReader
from h5bound.zarr_model.byte_layout import packed_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator


Array: TypeAlias = "np.ndarray[Any, Any]"

DType: TypeAlias = "np.dtype[Any]"

STRING: DType = np.dtypes.StringDType()
"""The numpy type of variable-length text, which Zarr calls ``string``."""

MAX_MEMBER_LENGTH = 16_384
"""Longest string, in characters, that may stand in a compound: every element takes 4 bytes for each."""

_SCAN_NBYTES = 1 << 24


class Widths:
    """Length of the longest text in each variable-length member of a dataset, found by reading it once."""

    def __init__(self, source: h5py.Dataset | h5t.TypeID, resolve: Resolve | None = None) -> None:
        self._source = source
        self._resolve = resolve
        self._known: dict[tuple[str, ...], int] | None = None

    def of(self, path: tuple[str, ...]) -> int:
        """Return the characters in the longest text of a member, at least 1."""
        if not isinstance(self._source, h5py.Dataset):
            raise UnsupportedError("strings and references in a compound have a Zarr form in datasets only")
        if self._known is None:
            self._known = _longest(self._source, self._resolve or ReferencePaths(self._source.file))
        width = max(1, self._known.get(path, 1))
        if width > MAX_MEMBER_LENGTH:
            raise UnsupportedError(f"a compound with a string of {width} characters: {MAX_MEMBER_LENGTH} is most")
        return width


def plan_dtype(
    source: DType, tid: h5t.TypeID, widths: Widths, *, zarr_format: int, path: tuple[str, ...] = ()
) -> DType:
    """Return the Zarr element type of a plain type, or of the member of a compound at ``path``.

    Raises
    ------
    UnsupportedError
        Zarr has none.
    """
    if source.subdtype is not None or (path and zarr_format == 2 and source.names):
        if source.hasobject:
            raise UnsupportedError("a compound whose members are arrays or compounds of strings or references")
        return np.dtype(("V", packed_dtype(source).itemsize))
    if source.names is not None:
        return np.dtype(
            [
                (
                    name,
                    plan_dtype(
                        source[name],
                        tid.get_member_type(i),
                        widths,
                        zarr_format=zarr_format,
                        path=(*path, name),
                    ),
                )
                for i, name in enumerate(source.names)
            ]
        )
    if source.kind == "O":
        return _text_dtype(tid, widths, path)
    dtype = _held(source)
    return dtype.newbyteorder("<") if path and zarr_format == 3 else dtype


def pack(block: Array, out: Array, resolve: Resolve | None) -> None:
    """Copy compounds, member by member, into the packed type."""
    for name in out.dtype.names or ():
        member, goal = block[name], out[name]
        kind = block.dtype[name]
        if goal.dtype.names:
            pack(member, goal, resolve)
        elif kind.subdtype is not None or kind.names:
            packed = np.empty(member.shape, packed_dtype(kind.base))
            packed[...] = member
            goal[...] = np.frombuffer(packed.tobytes(), goal.dtype).reshape(goal.shape)
        elif kind.kind == "O":
            goal[...] = _fitting(texts(member, resolve), goal.dtype, name).reshape(goal.shape)
        else:
            goal[...] = member.view(_integers(kind)) if goal.dtype.kind != kind.kind else member


def unpack(stored: Array, out: Array) -> None:
    """Copy packed compounds, member by member, into the type that h5py reads."""
    for name in out.dtype.names or ():
        member, goal = stored[name], out[name]
        kind = out.dtype[name]
        if member.dtype.names:
            unpack(member, goal)
        elif kind.subdtype is not None or kind.names:
            goal[...] = np.frombuffer(member.tobytes(), packed_dtype(kind.base)).reshape(goal.shape)
        elif member.dtype.kind != kind.kind:
            goal.view(_integers(kind))[...] = member
        else:
            goal[...] = member


def texts(block: Array, resolve: Resolve | None) -> Array:
    """Return strings, or the paths of references, as flat text.

    Raises
    ------
    UnsupportedError
        A string is not UTF-8.
    """
    try:
        found = [_text(item, resolve) for item in block.ravel()]
    except UnicodeDecodeError as error:
        raise UnsupportedError(f"a string is not UTF-8: {error.object[:40]!r}") from error
    return np.array(found, STRING)


def _text(item: object, resolve: Resolve | None) -> str:
    if isinstance(item, bytes):
        return item.decode("utf-8")
    if isinstance(item, str):
        return item
    if isinstance(item, h5py.Reference):
        if resolve is None:
            raise TypeError("references need resolve=ReferencePaths(file)")
        return resolve(item)
    if item is None or item == 0:  # what h5py gives for a string that was never set
        return ""
    raise UnsupportedError(f"{type(item).__name__} where a string was expected")


def _fitting(found: Array, dtype: DType, name: str) -> Array:
    if int(np.strings.str_len(found).max(initial=0)) * 4 > dtype.itemsize:
        raise UnsupportedError(f"a string in member {name!r} is longer than all were when it was planned")
    return found.astype(dtype)


def _text_dtype(tid: h5t.TypeID, widths: Widths, path: tuple[str, ...]) -> DType:
    if tid.get_class() == h5t.VLEN:
        raise UnsupportedError("a compound with variable-length sequences has no Zarr form")
    return np.dtype(f"<U{widths.of(path)}")


def _held(source: DType) -> DType:
    """Return a plain numpy type as Zarr holds it."""
    if source.kind in "fc" and source.itemsize > (8 if source.kind == "f" else 16):
        name = "floats" if source.kind == "f" else "complex numbers"
        raise UnsupportedError(f"Zarr has no {name} of {source.itemsize} bytes")
    if source.kind in "mM" and np.datetime_data(source)[0] == "generic":
        return _integers(source)  # zarr 3.1 refuses datetimes without a unit
    return source


def _integers(datetimes: DType) -> DType:
    return np.dtype("i8").newbyteorder(datetimes.byteorder)


def _longest(dataset: h5py.Dataset, resolve: Resolve) -> dict[tuple[str, ...], int]:
    known: dict[tuple[str, ...], int] = {}
    for block in _blocks(dataset):
        for path, member in _text_members(block):
            lengths = np.strings.str_len(texts(member, resolve))
            known[path] = max(known.get(path, 0), int(lengths.max(initial=0)))
    return known


def _blocks(dataset: h5py.Dataset) -> Iterator[Array]:
    if dataset.shape is None:
        return
    reader = DatasetReader(dataset)
    try:
        if not dataset.shape:
            yield reader.read(())
            return
        length, *rest = dataset.shape
        step = max(1, _SCAN_NBYTES // (max(1, prod(rest)) * dataset.dtype.itemsize))
        for start in range(0, length, step):
            yield reader.read((slice(start, min(start + step, length)), *(slice(0, n) for n in rest)))
    finally:
        reader.close()


def _text_members(block: Array, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Array]]:
    for name in block.dtype.names or ():
        member = block[name]
        if member.dtype.names:
            yield from _text_members(member, (*path, name))
        elif block.dtype[name].kind == "O" and block.dtype[name].subdtype is None:
            yield (*path, name), member
