"""Fill values of joined variables: that of the store, and the files in which elements never written have it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.buffers import same_bits
from h5bound.combining.conversions import apply
from h5bound.combining.file_scan import write_json
from h5bound.combining.packing import read_numbers
from h5bound.errors import UnsupportedError
from h5bound.zarr_model.fill_values import fill_attribute_to_json, fill_from_json, fill_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from h5bound.combining.context import ByFile
    from h5bound.combining.conversions import Conversion
    from h5bound.combining.file_scan import VariableSchema
    from h5bound.combining.joined_attributes import NodeAttributes
    from h5bound.combining.joined_values import Meaning
    from h5bound.zarr_model.byte_layout import Array

MASKED = ("_FillValue", "missing_value")
"""Attributes that say what readers mask; the first of them is what stands where a file has no values."""


def read_fill(schema: VariableSchema, zarr_format: int) -> Array | None:
    """Return the fill value of plain numbers, 0-d; None if there is none, or readers do not see its bits."""
    value, exact = json.loads(schema.fill)
    if not exact or value is None or schema.form != "plain" or schema.dtype.startswith("["):  # a compound
        return None
    return fill_from_json(value, np.dtype(schema.dtype), zarr_format)


def choose_fill(schema: VariableSchema, meaning: Meaning, zarr_format: int) -> str:
    """Return the fill value of a variable whose values are converted, as JSON text: NaN where they are unpacked."""
    dtype = np.dtype(meaning.dtype)
    value = np.array(np.nan, dtype) if meaning.dropped else read_fill(schema, zarr_format)
    if value is None:
        return write_json([json.loads(schema.fill)[0], False])
    return write_json(list(fill_to_json(value.astype(dtype), zarr_format)))


def find_filler(
    attributes: Mapping[str, Any], node: NodeAttributes, schema: VariableSchema, *, zarr_format: int
) -> Array | None:
    """Return what readers mask in a variable, 0-d; None if no attribute says it, or it is the fill value of the store.

    `node` has the attributes of the file that those of the store come from.
    """
    name = next((name for name in MASKED if name in attributes), None)
    if name is None or schema.form != "plain" or schema.dtype.startswith("["):
        return None
    try:
        numbers = read_numbers(name, node.values, node.details)
    except UnsupportedError:
        return None
    first = np.zeros(0) if numbers is None else numbers.array[:1]
    with np.errstate(all="ignore"):
        value = first.astype(np.dtype(schema.dtype))
    fill = read_fill(schema, zarr_format)
    if not first.size or not np.array_equal(value, first, equal_nan=True) or (fill is not None and value == fill):
        return None
    return value.reshape(())


def fit_fill_attribute(
    values: Mapping[str, Any], node: NodeAttributes | None, *, dtype: str, zarr_format: int
) -> dict[str, Any]:
    """Return attributes with ``_FillValue`` in the form that readers of a type expect."""
    if "_FillValue" not in values or zarr_format == 2 or node is None:
        return dict(values)
    try:
        numbers = read_numbers("_FillValue", node.values, node.details)
        fill = None if numbers is None else fill_attribute_to_json(numbers.array, np.dtype(dtype))
    except UnsupportedError:
        return dict(values)
    return {**values, "_FillValue": fill}


def have_fill(
    by_file: ByFile, conversions: Sequence[Conversion | None], schema: VariableSchema, *, zarr_format: int
) -> NDArray[np.bool_]:
    """Return in which files elements that were never written have the fill value of the store."""
    known: dict[tuple[str, str, int], bool] = {}
    result = np.ones(len(by_file), bool)
    for i, (item, conversion) in enumerate(zip(by_file, conversions, strict=True)):
        if item is not None:
            key = (item.schema.dtype, item.schema.fill, id(conversion))
            if key not in known:
                known[key] = has_fill(item.schema, conversion, schema, zarr_format=zarr_format)
            result[i] = known[key]
    return result


def has_fill(own: VariableSchema, conversion: Conversion | None, store: VariableSchema, *, zarr_format: int) -> bool:
    """Return whether elements that were never written in a file have the fill value of the store."""
    if conversion is None and (own.dtype, own.fill) == (store.dtype, store.fill):
        return True
    values = read_fill(own, zarr_format), read_fill(store, zarr_format)
    if values[0] is None or values[1] is None:
        return False
    try:
        converted = values[0] if conversion is None else apply(conversion, values[0])
    except UnsupportedError:
        return False
    return same_bits(converted, values[1])
