"""Attributes of an HDF5 object as plain values of Python and numpy, for people. Conversions read them bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import h5py
import numpy as np
from h5py import h5, h5a, h5p, h5s

from h5bound.errors import UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.byte_order import restore_byte_order
from h5bound.hdf5.datatypes import check_references, list_inner, read_type
from h5bound.hdf5.element_types import holds_bytes, memory_type, read_dtype
from h5bound.hdf5.links import decode_name, encode_name
from h5bound.hdf5.raw_objects import needs_raw, read_raw
from h5bound.hdf5.references import ReferencePaths

if TYPE_CHECKING:
    from collections.abc import Collection

    from h5bound.hdf5.references import Resolve

Item: TypeAlias = "h5py.Group | h5py.Dataset | h5py.Datatype"


def list_attribute_names(source: Item) -> tuple[list[bytes], str]:
    """Return the names of all attributes, in creation order if the file has it, and why some may be missing, or ""."""
    names: list[bytes] = []
    try:
        order = source.id.get_create_plist().get_attr_creation_order()
        by = h5.INDEX_CRT_ORDER if order & h5p.CRT_ORDER_TRACKED else h5.INDEX_NAME
        h5a.iterate(source.id, names.append, index_type=by)
    except READ_ERRORS as error:
        return names, f"h5py cannot list the attributes: {describe(error)}"
    return names, ""


def read_values(item: Item, resolve: Resolve | None = None, *, only: Collection[bytes] | None = None) -> dict[str, Any]:
    """Return the attributes of an object that was opened by its path: numbers, numpy arrays, text, or lists of these.

    Text is `str` as `decode_text` reads it, and a reference the path of its target, "" for a null reference; one of a
    region is JSON with what it selects. A null dataspace is None. A compound with text or references is a dictionary,
    else as numpy has it. What cannot be read is the text ``<cannot be read: reason>``. `resolve` returns the path of a
    reference's target; `only` are the names of the attributes to read.

    >>> with h5py.File("x.h5", "w", driver="core", backing_store=False) as file:
    ...     file.attrs.update({"units": np.bytes_("m"), "axes": ["x", "y"], "root": file.ref, "null": h5py.Empty("f4")})
    ...     read_values(file)
    {'axes': ['x', 'y'], 'null': None, 'root': '/', 'units': 'm'}
    """
    resolve = resolve or ReferencePaths(item.file)
    values: dict[str, Any] = {}
    for name in list_attribute_names(item)[0]:
        if only is not None and name not in only:
            continue
        try:
            values[decode_name(name)] = _to_plain(_read_value(item, name), resolve)
        except READ_ERRORS as error:
            reason = str(error) if isinstance(error, UnsupportedError) else describe(error)
            values[decode_name(name)] = f"<cannot be read: {reason}>"
    return values


def _read_value(item: Item, name: bytes) -> Any:
    attribute = h5a.open(item.id, name)
    tid = read_type(attribute)
    check_references(tid)
    space = attribute.get_space()
    is_null = space.get_simple_extent_type() == h5s.NULL
    if needs_raw(tid) and not is_null:
        return read_raw(attribute.read, tid, space)[()]
    dtype = read_dtype(tid)
    if not is_null and (holds_bytes(tid) or list_inner(tid)):
        array = np.zeros(space.shape + dtype.shape, dtype.base)
        attribute.read(array, memory_type(tid))
        return restore_byte_order(array, dtype)[()]
    value = item.attrs[name]
    return (
        restore_byte_order(value, dtype)[()] if dtype.hasobject and not isinstance(value, (str, h5py.Empty)) else value
    )


def _to_plain(value: Any, resolve: Resolve) -> Any:
    """Return a value with text for references and bytes, and lists for arrays of objects."""
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, h5py.Reference):
        return resolve(value)
    if isinstance(value, (bytes, str)):
        return decode_text(value)
    if isinstance(value, np.ndarray) and (value.dtype.hasobject or value.dtype.kind == "S"):
        return [_to_plain(element, resolve) for element in value]
    if isinstance(value, np.void) and value.dtype.names and _holds_text(value.dtype):
        return {name: _to_plain(value[name], resolve) for name in value.dtype.names}
    return value


def _holds_text(dtype: np.dtype[Any]) -> bool:
    """Return whether a type has elements or members that are text, references or sequences."""
    base = dtype.base
    if base.names is not None:
        return any(_holds_text(base[name]) for name in base.names)
    return base.hasobject or base.kind == "S"


def decode_text(text: str | bytes) -> str:
    r"""Return text as UTF-8, else as Windows-1252 or Latin-1, which most other text is.

    >>> decode_text("°C".encode()), decode_text(b"\xb0C"), decode_text("\udcb0C")
    ('°C', '°C', '°C')
    """
    raw = encode_name(text)
    for encoding in ("utf-8", "cp1252"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")
