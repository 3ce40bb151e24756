"""HDF5 datatypes translated to what a Zarr array holds, and the values with them, both ways.

A translation is exact or it is an :class:`~h5bound.errors.UnsupportedError`. Byte order is kept: Zarr v3 has
it in the ``bytes`` codec (:attr:`ZarrType.endian`), v2 in the data type. What becomes of a compound is the
matter of :mod:`h5bound.zarr_model.structured`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import h5py
import numpy as np
from h5py import h5t

from h5bound.errors import UnsupportedError
from h5bound.hdf5.datatypes import JSON, enum_members, enum_to_json, has_region_references, type_to_json
from h5bound.zarr_model.byte_layout import conversion_reason, memory_file, repacking_reason
from h5bound.zarr_model.structured import STRING, Array, DType, Widths, pack, plan_dtype, texts, unpack

if TYPE_CHECKING:
    from h5bound.hdf5.references import Resolve

Form: TypeAlias = Literal["plain", "string", "object_reference", "vlen"]

_WORD = re.compile(r"[\w.@+-]+")


@dataclass(frozen=True, slots=True)
class ZarrType:
    """What a Zarr array holds for one HDF5 datatype, and how values get from one to the other."""

    form: Form
    """``string`` is variable-length text, ``object_reference`` the target's path, ``vlen`` two arrays."""
    source: DType
    """Type of one element as h5py reads it, without the dimensions of an HDF5 array type."""
    dtype: DType
    """Type of one element of the Zarr array; StringDType for text; for ``vlen`` that of ``values``."""
    reason: str
    """Why the bytes of an HDF5 chunk, filters undone, are not those of the Zarr chunk; "" where they are."""
    metadata: dict[str, JSON]
    """What a reader needs to understand the values; belongs into ``_h5bound`` of the array."""
    details: dict[str, JSON]
    """How HDF5 spelled the type where that changes no value; belongs into ``_h5bound`` of the root."""
    attributes: dict[str, JSON]
    """What conventions ask for (``_DTYPE``, ``flag_values``), for where the source has none of that name."""
    element_shape: tuple[int, ...] = ()
    """Dimensions of the HDF5 array type: they follow the dataset's own."""
    values: ZarrType | None = None
    """For ``vlen``: the type of the ``values`` array."""

    @property
    def raw(self) -> bool:
        """Whether chunks can be kept: their bytes, filters undone, are those of the Zarr chunk."""
        return not self.reason

    @property
    def endian(self) -> Literal["little", "big"]:
        """Byte order for the ``bytes`` codec of Zarr v3."""
        return "big" if self.dtype.byteorder == ">" else "little"

    def convert(self, block: Array, resolve: Resolve | None = None) -> Array:
        """Return what Zarr stores for what h5py reads.

        Parameters
        ----------
        block
            As ``dataset[region]`` gives it.
        resolve
            Path of a reference's target, "" for a null one: :class:`~h5bound.hdf5.references.ReferencePaths`.

        Raises
        ------
        UnsupportedError
            A string is not UTF-8, or longer than when the type was translated.
        """
        if self.form == "vlen":
            raise TypeError("a block of sequences becomes two arrays: see split_vlen")
        if self.form != "plain":
            return texts(block, resolve).reshape(block.shape)
        if self.dtype == self.source:
            return block
        if self.dtype.names is None:
            return np.ascontiguousarray(block).view(self.dtype)
        out = np.zeros(block.shape, self.dtype)
        pack(block, out, resolve)
        return out

    def restore(self, block: Array) -> Array:
        """Return what h5py reads, from what Zarr stores; references, and text in compounds, stay text."""
        if self.form == "string":
            return _encoded(block)
        if self.form != "plain" or self.source.hasobject:
            return block
        stored = block.astype(self.dtype, copy=False)
        if self.dtype == self.source:
            return stored
        if self.dtype.names is None:
            return np.ascontiguousarray(stored).view(self.source)
        out = np.zeros(block.shape, self.source)
        unpack(stored, out)
        return out

    def split_vlen(self, block: Array, resolve: Resolve | None = None) -> tuple[Array, Array]:
        """Return the sequences of a block end to end as Zarr stores them, and the length of each (flat)."""
        if self.values is None:
            raise TypeError("not a type of variable-length sequences")
        pieces = [in_true_order(piece, self.values.source) for piece in block.ravel()]
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        joined = np.concatenate([np.empty(0, self.values.source), *pieces]).astype(self.values.source, copy=False)
        return self.values.convert(joined, resolve), lengths


def translate_type(
    source: h5py.Dataset | h5t.TypeID, *, zarr_format: int = 3, resolve: Resolve | None = None
) -> ZarrType:
    """Return the Zarr type of an HDF5 dataset, or of a bare type.

    A compound with variable-length strings or references is read once, to learn the longest; nothing else is.

    Raises
    ------
    UnsupportedError
        Zarr, or h5py, has no exact form for it. The message is the reason alone: the caller knows the path.

    Examples
    --------
    >>> translate_type(h5t.STD_I16BE).dtype
    dtype('>i2')
    >>> translate_type(h5t.STD_B16LE).raw
    True
    """
    tid = source.id.get_type() if isinstance(source, h5py.Dataset) else source
    if has_region_references(tid):
        raise UnsupportedError("region references have no Zarr form")
    shape: tuple[int, ...] = ()
    base = tid
    while base.get_class() == h5t.ARRAY:
        shape += base.get_array_dims()
        base = base.get_super()
    found = _translate(base, Widths(source, resolve), zarr_format)
    if not shape:
        return found
    dims: list[JSON] = list(shape)
    metadata = {**found.metadata, "type": type_to_json(tid), "element_shape": dims}
    return replace(found, element_shape=shape, metadata=metadata, details={})


def read_dtype(tid: h5t.TypeID) -> DType:
    """Return the numpy type that h5py has for an HDF5 type.

    Raises
    ------
    UnsupportedError
        It has none.
    """
    try:
        return cast("DType", tid.dtype)
    except UnicodeDecodeError as error:
        raise UnsupportedError("h5py cannot read a compound with a member name that is not UTF-8") from error
    except KeyError as error:  # of a table inside h5py: it tells nobody anything
        raise UnsupportedError(f"h5py has no type for {_name(tid)}") from error
    except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UnsupportedError(f"h5py has no type for {_name(tid)} ({error})") from error


def _name(tid: h5t.TypeID) -> str:
    spelled = type_to_json(tid)
    return f"HDF5's {spelled['class'] if isinstance(spelled, dict) else spelled}"


def in_true_order(piece: Array, base: DType) -> Array:
    """Return one variable-length sequence with the byte order of the file in its dtype.

    h5py 3.16 gives the sequences of a big-endian type unswapped under a native dtype: 1 as int16 reads 256.
    """
    if piece.dtype != base and piece.dtype == base.newbyteorder("=") and _h5py_drops_order():
        return piece.view(base)
    return piece


@lru_cache(maxsize=1)
def _h5py_drops_order() -> bool:
    order = np.dtype("i2").newbyteorder("S")
    with memory_file() as file:
        dataset = file.create_dataset("d", (1,), h5py.vlen_dtype(order))
        dataset[0] = np.ones(1, order)
        return int(dataset[0][0]) != 1


def _encoded(block: Array) -> Array:
    encoded = np.empty(block.shape, object)
    encoded.reshape(-1)[:] = [str(text).encode() for text in block.ravel()]
    return encoded


def _translate(tid: h5t.TypeID, widths: Widths, zarr_format: int) -> ZarrType:
    found = tid.get_class()
    if found == h5t.STRING and tid.is_variable_str():
        return _translate_text(tid)
    if found == h5t.REFERENCE:
        return _translate_reference(tid)
    if found == h5t.VLEN:
        return _translate_sequence(tid, zarr_format)
    source = read_dtype(tid)
    dtype = plan_dtype(source, tid, widths, zarr_format=zarr_format)
    if dtype.metadata is not None:  # h5py's notes, which zarr does not expect
        dtype = np.dtype(dtype.str)
    reason = conversion_reason(tid, source) or repacking_reason(source, dtype)
    plain = ZarrType("plain", source, dtype, reason, {}, {}, {})
    if found == h5t.ENUM and source.kind != "b":
        return replace(plain, metadata={"enum": enum_to_json(tid)}, attributes=_flags(tid))
    if found in (h5t.OPAQUE, h5t.COMPOUND) and source.kind != "c":
        return replace(plain, metadata={"type": type_to_json(tid)})
    return replace(plain, details={"type": type_to_json(tid)}) if _is_odd(tid, source) else plain


def _translate_text(tid: h5t.TypeID) -> ZarrType:
    spelled = type_to_json(tid)
    usual = {"class": "string", "nbytes": "variable", "strpad": "null-terminated", "cset": "utf-8"}
    details = {} if spelled == usual else {"type": spelled}
    reason = "variable-length strings are stored outside the chunks"
    return ZarrType("string", np.dtype(object), STRING, reason, {}, details, {})


def _translate_reference(tid: h5t.TypeID) -> ZarrType:
    attributes: dict[str, JSON] = {"_DTYPE": "object_reference"}
    reason = "object references are stored as addresses"
    metadata = {"type": type_to_json(tid)}
    return ZarrType("object_reference", np.dtype(object), STRING, reason, metadata, {}, attributes)


def _translate_sequence(tid: h5t.TypeID, zarr_format: int) -> ZarrType:
    base = tid.get_super()
    if base.get_class() in (h5t.VLEN, h5t.ARRAY):
        raise UnsupportedError("variable-length sequences of sequences or arrays have no Zarr form")
    values = _translate(base, Widths(base), zarr_format)
    reason = "variable-length sequences are stored outside the chunks"
    metadata = {"type": type_to_json(tid)}
    return ZarrType("vlen", np.dtype(object), values.dtype, reason, metadata, {}, {}, values=values)


def _flags(tid: h5t.TypeEnumID) -> dict[str, JSON]:
    members = [(name.decode("utf-8", "replace"), value) for name, value in enum_members(tid)]
    if not all(_WORD.fullmatch(name) for name, _ in members):
        return {}  # CF section 3.5: meanings are words separated by blanks
    meanings = " ".join(name for name, _ in members)
    return {"flag_values": [value for _, value in members], "flag_meanings": meanings}


def _is_odd(tid: h5t.TypeID, source: DType) -> bool:
    """Tell whether the Zarr type alone does not say what the HDF5 type is."""
    if isinstance(type_to_json(tid), str):
        return False
    if tid.get_class() == h5t.STRING:  # one byte has no room for padding: netCDF's char
        return bool(source.itemsize > 1 or tid.get_cset() != h5t.CSET_ASCII)
    return not tid.equal(h5t.py_create(source, logical=True))
