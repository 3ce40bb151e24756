"""HDF5 compounds, and their values, as packed numpy structures that zarr-python 3.1 and 3.4 support.

- Zarr v3 has the byte order in the ``bytes`` codec, not in its data types, and zarr 3.1 omits that codec for compounds:
  their members are little-endian. Zarr v2 has and keeps the byte order of each member.
- Neither has padding or members that are arrays, and zarr 3.1 cannot open a nested compound of format 2: such
  compounds become columns (:mod:`h5bound.zarr_model.parts`).
- Variable-length strings and object references become fixed-length UTF-32, as in anndata's stores. Its length is the
  longest in the dataset, so the dataset is read once.
"""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import h5py
import numpy as np
from h5py import h5t

from h5bound.errors import UnsupportedError
from h5bound.hdf5.links import encode_name
from h5bound.hdf5.references import ReferencePaths, Resolve
from h5bound.reader.dataset_reader import DatasetReader
from h5bound.reader.via_h5py import dtype_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h5bound.zarr_model.byte_layout import Array, DType


STRING: DType = np.dtypes.StringDType()
"""The numpy type of variable-length text, which Zarr calls ``string``."""

MAX_MEMBER_LENGTH = 16_384
"""Characters in the longest string that a compound may hold: every element takes 4 bytes for each."""


class StructError(UnsupportedError):
    """A compound that columns can hold, but not a struct."""


class TextWidths:
    """Lengths of the longest text in each variable-length member of a dataset, which is read once, at the first use."""

    def __init__(self, source: h5py.Dataset | h5t.TypeID, resolve: Resolve | None = None) -> None:
        self._source = source
        self._resolve = resolve

    @cached_property
    def _widths(self) -> dict[tuple[str, ...], int]:
        if not isinstance(self._source, h5py.Dataset):
            raise UnsupportedError("strings and references in a compound have a Zarr form in datasets only")
        return _find_widths(self._source, self._resolve or ReferencePaths(self._source.file))

    def of(self, path: tuple[str, ...]) -> int:
        """Return the characters in the longest text of a member, at least 1."""
        width = max(1, self._widths.get(path, 1))
        if width > MAX_MEMBER_LENGTH:
            raise StructError(
                f"a compound holds a string of {width} characters; h5bound stores at most {MAX_MEMBER_LENGTH}"
            )
        return width


def plan_dtype(
    source: DType, tid: h5t.TypeID, widths: TextWidths, *, zarr_format: int, path: tuple[str, ...] = ()
) -> DType:
    """Return the Zarr element type of a simple type or compound; raise StructError if a struct has no such member.

    `path` is that of a member in the compound.
    """
    is_nested = bool(path and zarr_format == 2 and source.names)
    if source.subdtype is not None or tid.get_class() == h5t.VLEN or is_nested:
        raise StructError("a compound with members that are arrays, sequences, or in format 2 compounds")
    if source.names is not None:
        members = []
        for i, name in enumerate(source.names):
            member_tid = tid.get_member_type(i)
            dtype = plan_dtype(source[name], member_tid, widths, zarr_format=zarr_format, path=(*path, name))
            members.append((name, dtype))
        return np.dtype(members)
    if source.kind == "O":
        return np.dtype(f"<U{widths.of(path)}")
    if source.kind == "V" or (source.kind in "fc" and source.itemsize > (8 if source.kind == "f" else 16)):
        return np.dtype(f"V{source.itemsize}")  # Zarr has no long double
    without_unit = source.kind in "mM" and np.datetime_data(source)[0] == "generic"  # zarr 3.1 refuses them
    dtype = _integers(source) if without_unit else source
    return dtype.newbyteorder("<") if path and zarr_format == 3 else dtype


def _integers(datetimes: DType) -> DType:
    return np.dtype("i8").newbyteorder(datetimes.byteorder)


def _exchanged(stored: Array, dtype: DType) -> DType:
    """Return the type by which values of a type of h5py are stored: bytes of long doubles, integers of times."""
    return stored.dtype if stored.dtype.kind == "V" else _integers(dtype)


def pack(block: Array, out: Array, resolve: Resolve | None) -> None:
    """Copy compounds, member by member, into the packed type."""
    for name in out.dtype.names or ():
        member, target = block[name], out[name]
        dtype = block.dtype[name]
        if target.dtype.names:
            pack(member, target, resolve)
        elif dtype.kind == "O":
            text = texts(member, resolve)
            if int(np.strings.str_len(text).max(initial=0)) * 4 > target.dtype.itemsize:
                raise UnsupportedError(f"a string in member {name!r} is longer than when the conversion was planned")
            target[...] = text.astype(target.dtype).reshape(target.shape)
        else:
            target[...] = member if target.dtype.kind == dtype.kind else member.view(_exchanged(target, dtype))


def unpack(packed: Array, out: Array) -> None:
    """Copy packed compounds, member by member, into the type that h5py reads."""
    for name in out.dtype.names or ():
        member, target = packed[name], out[name]
        dtype = out.dtype[name]
        if member.dtype.names:
            unpack(member, target)
        elif member.dtype.kind != dtype.kind:
            target.view(_exchanged(member, dtype))[...] = member
        else:
            target[...] = member


def texts(block: Array, resolve: Resolve | None) -> Array:
    """Return strings, or the paths of references, as flat text; raise UnsupportedError if a string is not UTF-8."""
    try:
        return np.array([_text(item, resolve) for item in block.ravel()], STRING)
    except UnicodeDecodeError as error:
        raise StructError(f"a string is not UTF-8: {error.object[:40]!r}") from error


def is_utf8(block: Array) -> bool:
    r"""Return whether all strings of a block are UTF-8.

    >>> is_utf8(np.array(["é".encode(), 0], object)), is_utf8(np.array([b"\xc3", b"\xa9"], object))
    (True, False)
    """
    items = block.ravel().tolist()
    try:
        b"\0".join([encode_name(item) for item in items if item]).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _text(item: object, resolve: Resolve | None) -> str:
    if isinstance(item, bytes):
        return item.decode("utf-8")
    if isinstance(item, str):
        return item
    if isinstance(item, h5py.Reference):
        if resolve is None:
            raise TypeError("references need resolve=ReferencePaths(file)")
        return resolve(item)
    if item is None or item == 0:  # h5py's value for a string that was never set
        return ""
    raise UnsupportedError(f"{type(item).__name__} where a string was expected")


def _find_widths(dataset: h5py.Dataset, resolve: Resolve) -> dict[tuple[str, ...], int]:
    widths: dict[tuple[str, ...], int] = {}
    for block in () if dataset.shape is None else _read_blocks(dataset):
        for path, member in _text_members(block):
            lengths = np.strings.str_len(texts(member, resolve))
            widths[path] = max(widths.get(path, 0), int(lengths.max(initial=0)))
    return widths


def _read_blocks(dataset: h5py.Dataset) -> Iterator[Array]:
    length, *rest = dataset.shape or (1,)
    step = max(1, (1 << 24) // (max(1, prod(rest)) * dtype_of(dataset).itemsize))
    reader = DatasetReader(dataset)
    try:
        for start in range(0, length, step):
            region = slice(start, min(start + step, length)), *(slice(0, n) for n in rest)
            yield reader.read(region if dataset.shape else ())
    finally:
        reader.close()


def _text_members(block: Array, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Array]]:
    for name in block.dtype.names or ():
        member = block[name]
        if member.dtype.names:
            yield from _text_members(member, (*path, name))
        elif block.dtype[name].kind == "O":
            yield (*path, name), member
