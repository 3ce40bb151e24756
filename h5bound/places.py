"""Where each attribute of an HDF5 object stands in a Zarr store.

A value stands under its own name where JSON can say it. What JSON leaves open (float32 or float64, one number or
an array of one) are *details*: they belong into ``_h5bound`` of the root, by path, where no reader of a variable's
attributes meets them. A value that JSON cannot say stands under ``_h5bound`` of its own object::

    {"units": "m", "_h5bound": {"attributes": {"z": {"type": "<c16", "shape": [], "value": [1.0, 2.0]}}}}

:mod:`h5bound.jsonvalues` has the form of an entry. Attributes whose names are not UTF-8 stand in the list
``_h5bound.odd_names``, each an entry with its ``name``.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from h5py import h5t

from h5bound.errors import UnsupportedError
from h5bound.fillattribute import spell_fill_attribute
from h5bound.jsonvalues import RawValue, Spelled
from h5bound.typetext import JSON, spell_text, spell_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from h5bound.compounds import Array, DType
    from h5bound.dimensions import Dimensions

KEY = "_h5bound"
"""The attribute under which h5bound keeps what has no place elsewhere."""

RESERVED = frozenset({KEY, "_ARRAY_DIMENSIONS", "_LINKS", "_DTYPE"})
"""Names with a meaning of their own in a store: the source's attributes of these go under ``_h5bound``."""


@dataclass(frozen=True, slots=True)
class AttributesRecord:
    """The attributes of one HDF5 group or dataset, as a Zarr store has them."""

    values: dict[str, JSON]
    """the attributes of the Zarr node, ``_h5bound`` among them where a value needs it"""
    details: dict[str, JSON]
    """what JSON leaves open; belongs into ``_h5bound`` of the root"""
    skipped: tuple[tuple[str, str], ...]
    """name and reason of each attribute that has no form, or cannot be read; "*" if they cannot be listed"""
    notes: tuple[str, ...]
    """what looks different though nothing is lost"""
    dimensions: Dimensions | None
    """what dimension scales say; None for a group"""
    fill: Array | None
    """the value of ``_FillValue`` as h5py reads it, None where there is none"""

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """Names of the dimensions; None for a group, and where nothing names any."""
        return self.dimensions.names if self.dimensions is not None and any(self.dimensions.names) else None


def merge_metadata(values: Mapping[str, JSON], metadata: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return attributes with more under ``_h5bound``; without that key where there is nothing to say.

    Examples
    --------
    >>> merge_metadata({"units": "m"}, {"enum": {"A": 1}})
    {'units': 'm', '_h5bound': {'enum': {'A': 1}}}
    """
    held = {**cast("dict[str, JSON]", values.get(KEY, {})), **metadata}
    rest = {name: value for name, value in values.items() if name != KEY}
    return {**rest, KEY: held} if held else rest


@dataclass(slots=True)
class Places:
    """The attributes of one object, gathered one by one."""

    fill_dtype: DType | None
    """where ``_FillValue`` is xarray's: the type of the Zarr array"""
    values: dict[str, JSON] = field(default_factory=dict)
    entries: dict[str, JSON] = field(default_factory=dict)
    odd: list[JSON] = field(default_factory=list)
    opened: dict[str, JSON] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fill: Array | None = None

    def add(self, raw_name: bytes, value: RawValue, spelled: Spelled) -> None:
        """Put one attribute where it belongs."""
        name = spell_text(raw_name)
        if name == "_FillValue":
            self.fill = value.array
            spelled = self._fill(value, spelled)
        if not isinstance(name, str):
            self.odd.append({"name": name, **_whole(spelled)})
        elif name in RESERVED or not spelled.plain:
            self.entries[name] = _whole(spelled)
            if name in RESERVED:
                self.notes.append(f"attribute {name!r} stands under {KEY}: the name has a meaning in the store")
        else:
            self.values[name] = spelled.json
            if spelled.entry:
                place = self.entries if _is_enum(value.tid) else self.opened
                place[name] = dict(spelled.entry)

    def _fill(self, value: RawValue, spelled: Spelled) -> Spelled:
        if self.fill_dtype is None:
            return spelled
        try:
            json = spell_fill_attribute(value.array, self.fill_dtype)
        except UnsupportedError as error:
            self.notes.append(f"attribute '_FillValue' stands under {KEY}: {error}")
            return Spelled(spelled.json, plain=False, entry=_whole(spelled))
        if json == spelled.json:
            return spelled
        array = cast("Array", value.array)
        coded = base64.b64encode(array.tobytes()).decode("ascii")
        dims: list[JSON] = list(array.shape)
        return Spelled(json, plain=True, entry={"type": spell_type(value.tid), "shape": dims, "base64": coded})

    def record(self, dimensions: Dimensions | None) -> AttributesRecord:
        """Return what was gathered."""
        metadata: dict[str, JSON] = {}
        if self.entries:
            metadata["attributes"] = self.entries
        if self.odd:
            metadata["odd_names"] = self.odd
        details: dict[str, JSON] = {} if dimensions is None else dict(dimensions.details)
        if self.opened:
            details["attributes"] = self.opened
        notes = (*self.notes, *_notes(self.values, self.opened, dimensions))
        return AttributesRecord(
            merge_metadata(self.values, metadata), details, tuple(self.skipped), notes, dimensions, self.fill
        )


def _whole(spelled: Spelled) -> dict[str, JSON]:
    """Return an entry that holds the value too."""
    return {"value": spelled.json, **spelled.entry} if spelled.plain else dict(spelled.entry)


def _is_enum(tid: h5t.TypeID) -> bool:
    while tid.get_class() == h5t.ARRAY:
        tid = tid.get_super()
    return bool(tid.get_class() == h5t.ENUM and tid.dtype.kind != "b")


def _notes(values: Mapping[str, JSON], details: Mapping[str, JSON], dimensions: Dimensions | None) -> Iterator[str]:
    if dimensions is None:
        return
    if dimensions.bare:
        yield "netCDF dimension without a variable"
    packed = [name for name in ("scale_factor", "add_offset") if name in values]
    if any(cast("dict[str, JSON]", details.get(name, {})).get("type") in ("<f4", ">f4") for name in packed):
        yield f"{' and '.join(packed)} are float32: JSON has no such type, so xarray decodes with float64"
