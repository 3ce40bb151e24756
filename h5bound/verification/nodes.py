"""Compare attributes, shape, type, fill value and dimension names of the nodes of a store with their source."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5a

from h5bound.buffers import same_bits
from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.attributes import list_attribute_names
from h5bound.hdf5.links import decode_name
from h5bound.reports.entries import Difference
from h5bound.stores.differences import list_differing_parts, same_json
from h5bound.zarr_model.array_spec import TEXT_CODECS
from h5bound.zarr_model.attribute_values import read_value, value_from_json
from h5bound.zarr_model.attributes import describe_failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from h5bound.hdf5.type_json import JSON
    from h5bound.planning.plan import ArrayPlan
    from h5bound.stores.tree import StoreNode
    from h5bound.zarr_model.byte_layout import Array


def compare_attributes(
    source: h5py.Group | h5py.Dataset,
    actual: Mapping[str, JSON],
    planned: Mapping[str, JSON],
    *,
    details: Mapping[str, JSON],
) -> Iterator[tuple[str, str]]:
    """Yield name and difference of each attribute of a node that differs from the plan, or from the source.

    If none differs from the plan, every value is read from the open source again. The JSON is turned back into numbers
    and bytes, which are compared bit for bit, except where that is not possible: sequences, compounds with strings.
    """
    differing = list_differing_parts(actual, planned)
    for name in differing:
        yield name, f"{_shown(actual, name)} in the store, {_shown(planned, name)} in the source"
    if not differing:
        yield from _compare_bits(source, actual, details)


def _shown(values: Mapping[str, JSON], name: str) -> str:
    text = json.dumps(values[name]) if name in values else "nothing"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _compare_bits(
    source: h5py.Group | h5py.Dataset, actual: Mapping[str, JSON], details: Mapping[str, JSON]
) -> Iterator[tuple[str, str]]:
    """Yield the attributes whose JSON does not turn back into the numbers and bytes of the source."""
    entries: Any = details.get("attributes", {})
    for raw_name in list_attribute_names(source)[0]:
        name = decode_name(raw_name)
        if name not in actual and name not in entries:
            continue  # in the dimension names, skipped, or with a name that is not UTF-8: compared as JSON
        entry = entries.get(name, {})
        try:
            _, array = read_value(h5a.open(source.id, raw_name))
            same = _turns_back(array, entry["value"] if "value" in entry else actual.get(name), entry)
        except READ_ERRORS as error:
            yield name, describe_failure(error)
        else:
            if not same:
                yield name, "the value in the store is not the source's bit for bit"


def _turns_back(array: Array | None, value: JSON, entry: dict[str, JSON]) -> bool:
    """Return whether a value in JSON turns back into that of the source, or has no form that does."""
    if array is None:
        return entry.get("shape", ()) is None
    is_text = array.dtype.kind == "S" or h5py.check_string_dtype(array.dtype) is not None
    is_number = array.dtype.kind in "biuf" and array.dtype.itemsize <= 8
    if not (is_text or is_number or "base64" in entry):
        return True
    back = value_from_json(value, entry, array.dtype)
    if back is None or back.shape != array.shape:
        return False
    if is_text:
        return [bytes(item) for item in back.ravel()] == [bytes(item or b"") for item in array.ravel()]
    return back.tobytes() == array.tobytes()


def compare_array(plan: ArrayPlan, actual: StoreNode) -> Iterator[Difference]:
    """Yield differences in shape, type, fill value and dimension names of an array."""
    node, array, path = plan.node, actual.array, plan.path
    assert array is not None
    if plan.part is not None:
        planned = dict(node.attributes)
        planned |= {"_ARRAY_DIMENSIONS": list(node.dimension_names)} if array.metadata.zarr_format == 2 else {}
        for name in list_differing_parts(actual.attributes, planned):
            yield Difference(path, f"added to {actual.path}, or another value there", name)
    if array.shape != node.shape:
        yield Difference(path, f"shape {array.shape} in the store, {node.shape} in the source")
    actual_type, planned_type = (
        dtype.kind if dtype.kind in TEXT_CODECS else dtype.newbyteorder("=") for dtype in (array.dtype, node.dtype)
    )
    if actual_type != planned_type:
        yield Difference(path, f"type {array.dtype} in the store, {node.dtype} in the source")
    elif not same_fill(plan, actual):
        yield Difference(path, f"fill value {actual.fill_json!r} in the store, {node.fill.json!r} in the source")
    names = getattr(array.metadata, "dimension_names", node.dimension_names)
    if names != node.dimension_names:
        yield Difference(path, f"dimension names {names} in the store, {node.dimension_names} in the source")


def same_fill(plan: ArrayPlan, actual: StoreNode) -> bool:
    """Return whether an array has the planned fill value, or the same bits in other JSON.

    An array without a fill value differs from one with any: readers mask values equal to it.
    """
    planned = plan.node.fill
    if same_json(actual.fill_json, planned.json):
        return True
    if actual.fill_json is None or planned.json is None or not planned.exact or actual.array is None:
        return False
    return same_bits(np.asarray(actual.array.fill_value, plan.node.dtype), planned.value)
