"""Attributes of HDF5 groups and datasets as Zarr attributes, with nothing lost, and the comparison of the two."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING

import h5py
from h5py import h5a

from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.links import decode_name
from h5bound.zarr_model.attribute_values import RawValue, read_value, value_from_json
from h5bound.zarr_model.attributes import H5BOUND_KEY, describe_failure, list_attribute_names, read_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from h5bound.hdf5.datatypes import JSON
    from h5bound.hdf5.references import Resolve
    from h5bound.zarr_model.byte_layout import DType


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
        if name != H5BOUND_KEY and not _same_json(found, expected.values, name)
    ]
    for place, wanted, held in (
        (H5BOUND_KEY, _inside(expected.values, H5BOUND_KEY), _inside(found, H5BOUND_KEY)),
        ("the details", expected.details, details or {}),
    ):
        differences += [f"{part!r} in {place} differs" for part in wanted if not _same_json(held, wanted, part)]
    return differences or list(_compare_bits(source, found, details or {}))


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
    held = _inside(_inside(found, H5BOUND_KEY), "attributes")
    opened = _inside(details, "attributes")
    for raw_name in list_attribute_names(source)[0]:
        name = decode_name(raw_name)
        if name not in found and name not in held:
            continue  # told by the dimensions, skipped, or not named in UTF-8: compared as JSON
        entry = _inside(held if name in held else opened, name)
        try:
            value = read_value(h5a.open(source.id, raw_name))
            same = _turns_back(value, entry["value"] if "value" in entry else found.get(name), entry)
        except READ_ERRORS as error:
            yield f"attribute {name!r}: {describe_failure(error)}"
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
    back = value_from_json(json, entry, array.dtype)
    if back is None or back.shape != array.shape:
        return False
    if text:
        return [bytes(item) for item in back.ravel()] == [bytes(item or b"") for item in array.ravel()]
    return back.tobytes() == array.tobytes()
