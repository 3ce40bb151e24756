"""Compare the attributes of a Zarr node with those of an HDF5 group or dataset, bit for bit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import h5py
from h5py import h5a

from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.links import decode_name
from h5bound.stores.tree import same_json
from h5bound.zarr_model.attribute_values import RawValue, read_value, value_from_json
from h5bound.zarr_model.attributes import H5BOUND_KEY, describe_failure, list_attribute_names, read_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from h5bound.hdf5.datatypes import JSON
    from h5bound.hdf5.references import Resolve
    from h5bound.zarr_model.byte_layout import DType


def compare_attributes(
    source: h5py.Group | h5py.Dataset,
    stored: Mapping[str, JSON],
    details: Mapping[str, JSON] | None = None,
    *,
    zarr_format: int = 3,
    dtype: DType | None = None,
    netcdf: bool | None = None,
    resolve: Resolve | None = None,
) -> list[str]:
    """Return how the attributes of a Zarr node differ from those of an open group or dataset, one line each.

    Every value is read from the source again. The stored form is turned back into numbers and bytes, which are compared
    bit for bit; where that is not possible (sequences, compounds with strings), JSON is compared. Attributes that only
    the Zarr node has are not looked at.

    Parameters
    ----------
    source
        An open group or dataset.
    stored
        All attributes of the Zarr node.
    details
        Details of the node in ``_h5bound`` of the root.
    zarr_format, dtype, netcdf, resolve
        As for :func:`read_attributes`, with which the store was written.
    """
    details = details or {}
    expected = read_attributes(source, zarr_format=zarr_format, dtype=dtype, netcdf=netcdf, resolve=resolve)
    differences = [
        f"attribute {name!r}: {_shown(stored, name)} in the store, {_shown(expected.values, name)} in the source"
        for name in _differing(expected.values, stored)
        if name != H5BOUND_KEY
    ]
    inner = _inside(expected.values, H5BOUND_KEY), _inside(stored, H5BOUND_KEY)
    differences += [f"{part!r} in {H5BOUND_KEY} differs" for part in _differing(*inner)]
    differences += [f"{part!r} in the details differs" for part in _differing(expected.details, details)]
    return differences or list(_compare_bits(source, stored, details))


def _differing(expected: Mapping[str, JSON], stored: Mapping[str, JSON]) -> list[str]:
    return [name for name in expected if name not in stored or not same_json(stored[name], expected[name])]


def _shown(values: Mapping[str, JSON], name: str) -> str:
    text = json.dumps(values[name]) if name in values else "nothing"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _inside(values: Mapping[str, JSON], name: str) -> dict[str, JSON]:
    inner = values.get(name)
    return inner if isinstance(inner, dict) else {}


def _compare_bits(
    source: h5py.Group | h5py.Dataset, stored: Mapping[str, JSON], details: Mapping[str, JSON]
) -> Iterator[str]:
    """Yield the attributes whose stored form does not turn back into the numbers and bytes of the source."""
    marked = _inside(_inside(stored, H5BOUND_KEY), "attributes")
    for raw_name in list_attribute_names(source)[0]:
        name = decode_name(raw_name)
        if name not in stored and name not in marked:
            continue  # in the dimension names, skipped, or with a name that is not UTF-8: compared as JSON
        entry = _inside(marked if name in marked else _inside(details, "attributes"), name)
        try:
            value = read_value(h5a.open(source.id, raw_name))
            same = _turns_back(value, entry["value"] if "value" in entry else stored.get(name), entry)
        except READ_ERRORS as error:
            yield f"attribute {name!r}: {describe_failure(error)}"
        else:
            if not same:
                yield f"attribute {name!r}: what is stored is not the source's value bit for bit"


def _turns_back(value: RawValue, stored: JSON, entry: dict[str, JSON]) -> bool:
    """Return whether a stored value turns back into that of the source, or has no form that does."""
    array = value.array
    if array is None:
        return entry.get("shape", ()) is None
    is_text = array.dtype.kind == "S" or h5py.check_string_dtype(array.dtype) is not None
    is_number = array.dtype.kind in "biuf" and array.dtype.itemsize <= 8
    if not (is_text or is_number or "base64" in entry):
        return True
    back = value_from_json(stored, entry, array.dtype)
    if back is None or back.shape != array.shape:
        return False
    if is_text:
        return [bytes(item) for item in back.ravel()] == [bytes(item or b"") for item in array.ravel()]
    return back.tobytes() == array.tobytes()
