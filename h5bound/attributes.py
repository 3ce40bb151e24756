"""Attributes of HDF5 groups and datasets as Zarr attributes, with nothing lost, and the comparison of the two."""

from __future__ import annotations

import json as jsonlib
import os
from typing import TYPE_CHECKING, cast

import h5py
from h5py import h5, h5a, h5ds, h5p, h5t

from h5bound.dimensions import read_dimensions
from h5bound.errors import UnsupportedError
from h5bound.jsonvalues import RawValue, Spelled, read_json, read_value, spell_value
from h5bound.names import escape
from h5bound.places import KEY, AttributesRecord, Places, merge_metadata
from h5bound.references import ReferencePaths
from h5bound.typetext import JSON, spell_text, spell_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from h5bound.compounds import DType, Resolve

__all__ = [
    "KEY",
    "AttributesRecord",
    "compare_attributes",
    "is_netcdf",
    "merge_metadata",
    "read_attributes",
    "spell_links",
]

_UNREADABLE = (TypeError, OSError, ValueError, RuntimeError, KeyError, MemoryError, UnsupportedError)
_NETCDF_SCAN = 1000


def read_attributes(
    source: h5py.Group | h5py.Dataset | h5py.Datatype,
    *,
    zarr_format: int = 3,
    dtype: DType | None = None,
    netcdf: bool | None = None,
    resolve: Resolve | None = None,
) -> AttributesRecord:
    """Return the attributes of an open group, dataset or committed type, as a Zarr store has them.

    Parameters
    ----------
    source
        Opened by its path.
    zarr_format
        3 or 2: xarray reads ``_FillValue`` otherwise.
    dtype
        Of the Zarr array's elements, for ``_FillValue``; None for what h5py has.
    netcdf
        Whether the file is read as netCDF, where an array of one is that one. None: look (:func:`is_netcdf`).
    resolve
        Path of a reference's target; None for the first name that HDF5 finds.
    """
    resolve = resolve or ReferencePaths(source.file)
    netcdf = is_netcdf(source.file) if netcdf is None else netcdf
    dimensions = read_dimensions(source, resolve) if isinstance(source, h5py.Dataset) else None
    places = Places(None)
    if isinstance(source, h5py.Dataset) and zarr_format == 3:
        places.fill_dtype = _element_dtype(source) if dtype is None else dtype
    names, trouble = _list_names(source)
    if trouble:
        places.skipped.append(("*", trouble))
    for name in names:
        if dimensions is not None and _text(name) in dimensions.consumed:
            continue
        try:
            value = read_value(h5a.open(source.id, name))
            spelled = spell_value(value, resolve, netcdf=netcdf)
            places.add(name, value, _spell_categories(source, name, spelled))
        except _UNREADABLE as error:
            places.skipped.append((_text(name), _reason(error)))
    return places.record(dimensions)


def compare_attributes(
    source: h5py.Group | h5py.Dataset,
    found: Mapping[str, JSON],
    details: Mapping[str, JSON] | None = None,
    *,
    zarr_format: int = 3,
    dtype: DType | None = None,
    netcdf: bool | None = None,
    resolve: Resolve | None = None,
) -> list[str]:
    """Return what differs between the attributes of a source and those of a Zarr node, one line each.

    Every value is read again from the source. What the store has is turned back into numbers and bytes and
    compared bit for bit, and where there is no such form (sequences, compounds with strings), as JSON.

    Parameters
    ----------
    source
        An open group or dataset.
    found
        All attributes of the Zarr node; what is there beside the source's is not looked at.
    details
        What ``_h5bound`` of the root says of it.
    zarr_format, dtype, netcdf, resolve
        As for :func:`read_attributes`, with which the store was written.
    """
    expected = read_attributes(source, zarr_format=zarr_format, dtype=dtype, netcdf=netcdf, resolve=resolve)
    differences = [
        f"attribute {name!r}: {_shown(found, name)} in the store, {_shown(expected.values, name)} in the source"
        for name in expected.values
        if name != KEY and not _same_json(found, expected.values, name)
    ]
    for place, wanted, held in (
        (KEY, _inside(expected.values, KEY), _inside(found, KEY)),
        ("the details", expected.details, details or {}),
    ):
        differences += [f"{part!r} in {place} differs" for part in wanted if not _same_json(held, wanted, part)]
    return differences or list(_compare_bits(source, found, details or {}))


def is_netcdf(file: h5py.File) -> bool:
    """Tell whether a file is one that netCDF-4 libraries read with its dimensions.

    That is one that such a library wrote, or one with a dimension scale in its root group (among the first
    1,000 objects).
    """
    try:
        return "_NCProperties" in file.attrs or any(_are_scales(file["/"]))
    except _UNREADABLE:
        return False


def spell_links(links: Mapping[str, str]) -> list[JSON]:
    """Return soft links and further hard links of a group, by name and target path, for its ``_LINKS``.

    Examples
    --------
    >>> spell_links({"again": "/entry/data"})
    [{'name': 'again', 'source': '.', 'path': '/entry/data'}]
    """
    return [{"name": spell_text(n), "source": ".", "path": spell_text(path)} for n, path in links.items()]


def _are_scales(group: h5py.Group) -> Iterator[bool]:
    """Tell of each of the first datasets of a group whether it is a dimension scale."""
    for _, name in zip(range(_NETCDF_SCAN), group, strict=False):
        # to ask for a name with a slash would follow the links on the way, out of the file too
        if "/" not in name and group.get(name, getclass=True, getlink=True) is h5py.HardLink:
            item = group.get(name)
            yield isinstance(item, h5py.Dataset) and bool(h5ds.is_scale(item.id))


def _list_names(source: h5py.Group | h5py.Dataset) -> tuple[list[bytes], str]:
    """Return the names of all attributes, in the order they were made where the file knows it, and any trouble."""
    found: list[bytes] = []
    try:
        order = source.id.get_create_plist().get_attr_creation_order()
        by = h5.INDEX_CRT_ORDER if order & h5p.CRT_ORDER_TRACKED else h5.INDEX_NAME
        h5a.iterate(source.id, found.append, index_type=by)
    except _UNREADABLE as error:
        return found, f"h5py cannot list the attributes: {error}"
    return found, ""


def _spell_categories(source: h5py.Group | h5py.Dataset, name: bytes, spelled: Spelled) -> Spelled:
    """Return the reference from codes to their categories as AnnData before 0.8 has it in Zarr.

    In HDF5 it is an object reference, in Zarr a path that begins beside the codes (anndata, on-disk format,
    version 0.1.0 of a categorical).
    """
    path, _, own = os.fsdecode(source.name or "").rpartition("/")
    place = f"__categories/{own}"
    wanted: JSON = {"_REFERENCE": {"source": ".", "path": f"{path}/{place}"}}
    if name != b"categories" or spelled.json != wanted or escape(own) != own:
        return spelled
    return Spelled(place, plain=True, entry={"type": spell_type(h5t.STD_REF_OBJ), "value": wanted})


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, UnsupportedError) else f"h5py cannot read it: {error}"


def _element_dtype(dataset: h5py.Dataset) -> DType | None:
    try:
        return cast("DType", dataset.dtype.base)
    except _UNREADABLE:
        return None


def _shown(values: Mapping[str, JSON], name: str) -> str:
    text = jsonlib.dumps(values[name]) if name in values else "nothing"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _same_json(one: Mapping[str, JSON], other: Mapping[str, JSON], name: str) -> bool:
    """Tell whether two values are the same JSON: 1, 1.0 and true are three."""
    if name not in one:
        return False
    return jsonlib.dumps(one[name], sort_keys=True) == jsonlib.dumps(other[name], sort_keys=True)


def _inside(values: Mapping[str, JSON], name: str) -> dict[str, JSON]:
    inner = values.get(name)
    return inner if isinstance(inner, dict) else {}


def _compare_bits(
    source: h5py.Group | h5py.Dataset, found: Mapping[str, JSON], details: Mapping[str, JSON]
) -> Iterator[str]:
    """Yield the attributes whose stored form does not turn back into the source's numbers and bytes."""
    held = _inside(_inside(found, KEY), "attributes")
    opened = _inside(details, "attributes")
    for raw_name in _list_names(source)[0]:
        name = _text(raw_name)
        if name not in found and name not in held:
            continue  # told by the dimensions, skipped, or not named in UTF-8: compared as JSON
        entry = _inside(held if name in held else opened, name)
        try:
            value = read_value(h5a.open(source.id, raw_name))
            same = _turns_back(value, entry["value"] if "value" in entry else found.get(name), entry)
        except _UNREADABLE as error:
            yield f"attribute {name!r}: {_reason(error)}"
        else:
            if not same:
                yield f"attribute {name!r}: what is stored is not the source's value bit for bit"


def _turns_back(value: RawValue, json: JSON, entry: dict[str, JSON]) -> bool:
    array = value.array
    if array is None:
        return entry.get("shape", ()) is None
    text = array.dtype.kind == "S" or h5py.check_string_dtype(array.dtype) is not None
    number = array.dtype.kind in "biuf" and array.dtype.itemsize <= 8
    if not (text or number or "base64" in entry):
        return True
    back = read_json(json, entry, array.dtype)
    if back is None or back.shape != array.shape:
        return False
    if text:
        return [bytes(item) for item in back.ravel()] == [bytes(item or b"") for item in array.ravel()]
    return back.tobytes() == array.tobytes()
