"""What a variable becomes that is joined along the dimension."""

from __future__ import annotations

import json
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from h5py import h5z

from h5bound.combining.context import EMPTY, find_first
from h5bound.combining.file_scan import write_json
from h5bound.combining.joined import JoinedVariable
from h5bound.combining.joined_attributes import NodeAttributes, join_attributes
from h5bound.combining.joined_fills import MASKED, choose_fill, find_filler, fit_fill_attribute, have_fill
from h5bound.combining.joined_values import Variant, is_text, plan_values, set_length
from h5bound.combining.time_units import is_time
from h5bound.reports.text import plural

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from h5bound.combining.context import ByFile, Context
    from h5bound.combining.file_scan import VariableScan, VariableSchema
    from h5bound.combining.joined import AttributeTable
    from h5bound.combining.joined_values import Meaning

    Joining = tuple[JoinedVariable, list[AttributeTable]]
    Node = tuple[VariableSchema, dict[str, Any], dict[str, Any], list[AttributeTable]]

JOINABLE = ("plain", "string", "bytes", "object_reference")
"""Forms of values of which several arrays make one."""


def join_along(context: Context, path: str, by_file: ByFile) -> Joining | None:
    """Return a variable that is joined along the dimension; None if it cannot be."""
    rules = context.rules
    if not check_shapes(context, path, by_file):
        return None
    counts, skips = measure_files(context, path, by_file)
    if counts is None:
        return None
    variants = list_variants(context, path, by_file)
    meaning = plan_values(path, variants, rules=rules, findings=context.findings)
    schema, values, details, tables = join_nodes(context, path, by_file, meaning=meaning)
    note_storage(context, path, by_file)
    pairs = zip(variants, meaning.conversions, strict=True)
    by_number = {number: conversion for variant, conversion in pairs for number in variant.numbers}
    conversions = [by_number.get(number) for number in range(len(by_file))]
    source, first = find_first(by_file)
    fill = "" if values.keys() & set(MASKED) else write_json(json.loads(schema.fill)[0])  # base64 where it is no JSON
    missing = fill_missing(context, path, by_file, fill=fill)
    node = NodeAttributes(first.attributes, context.scans[source].details.get(path, EMPTY))
    filler = find_filler(values, node, schema, zarr_format=rules.zarr_format) if missing.any() else None
    axis = 0 if rules.new else first.find_axis(rules.dim)
    assert axis is not None
    copied = [
        item is not None and conversion is None and is_copied(item.schema, schema)
        for item, conversion in zip(by_file, conversions, strict=True)
    ]
    variable = JoinedVariable(
        path=path,
        target=first.target,
        schema=add_axis(schema, rules.dim) if rules.new else schema,
        axis=axis,
        shape=(*first.shape[:axis], int(counts.sum()), *first.shape[axis + (not rules.new) :]),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        skips=skips,
        source=source,
        attributes=values,
        details=details,
        conversions=conversions,
        missing=missing,
        filler=filler,
        copied=np.array(copied),
        unwritten=have_fill(by_file, conversions, schema, zarr_format=rules.zarr_format),
    )
    return variable, tables


def join_nodes(context: Context, path: str, by_file: ByFile, *, meaning: Meaning) -> Node:
    """Return schema, attributes and details of a variable with the values that those of all files become.

    After them the tables of attributes that are kept by file.
    """
    rules, nodes = context.rules, context.describe(path, by_file)
    values, details, tables = join_attributes(
        path, nodes, handled=meaning.handled, rules=rules, findings=context.findings
    )
    values, details = drop_attributes(values, details, meaning.dropped)
    source, first = find_first(by_file)
    schema = replace(first.schema, dtype=meaning.dtype)
    if schema.dtype != first.schema.dtype and is_text(schema):
        schema = replace(schema, hdf5_type=set_length(schema.hdf5_type, np.dtype(schema.dtype).itemsize))
        details = {**details, **json.loads(schema.hdf5_type)}
    if schema.dtype != first.schema.dtype or meaning.dropped:
        schema = replace(schema, fill=choose_fill(first.schema, meaning, rules.zarr_format))
        values = fit_fill_attribute(values, nodes[source], dtype=meaning.dtype, zarr_format=rules.zarr_format)
    return schema, values, details, tables


def fill_missing(context: Context, path: str, by_file: ByFile, *, fill: str) -> NDArray[np.bool_]:
    """Return the files that lack a variable, and tell them; `fill` is a fill value that no attribute says, else ""."""
    missing = np.array([item is None for item in by_file])
    if missing.any():
        text = f"its fill value, {fill}, which no reader masks," if fill else "its fill value"
        what, numbers, there = describe_missing(missing)
        context.findings.decide(path, what, numbers, action=f"{text} is {there}")
    return missing


def describe_missing(missing: NDArray[np.bool_]) -> tuple[str, NDArray[np.int64], str]:
    """Return what is told of a variable that some files lack, of which files, and where the others are.

    Those that have it are told if they are fewer.

    >>> what, numbers, there = describe_missing(np.array([True, True, False]))
    >>> what, numbers.tolist(), there
    ('only 1 of 3 files has it', [2], 'in the others')
    """
    present = np.flatnonzero(~missing)
    if 2 * present.size >= missing.size:
        return "some files lack it", np.flatnonzero(missing), "there"
    verb = "has" if present.size == 1 else "have"
    return f"only {present.size:,} of {plural(missing.size, 'file')} {verb} it", present, "in the others"


def check_shapes(context: Context, path: str, by_file: ByFile) -> bool:
    """Return whether variables have the same axes, but for their length along the dimension; refuse others."""
    findings, dim = context.findings, context.rules.dim
    _, first = find_first(by_file)
    if first.schema.form not in JOINABLE:
        what = f"{first.schema.form.replace('_', ' ')} cannot be joined along a dimension"
        findings.leave_out(path, what, range(len(by_file)))
        return False
    axis = first.find_axis(dim)
    before = describe_shape(first, axis)
    texts = {i: describe_shape(item, axis) for i, item in enumerate(by_file) if item is not None}
    odd = {i: text for i, text in texts.items() if text != before}
    if odd:
        text, *others = dict.fromkeys(odd.values())
        what = f"its axes are {before} in the first file, then {text}{', …' if others else ''}"
        findings.leave_out(path, what, odd)
    return not odd


def describe_shape(item: VariableScan, axis: int | None) -> str:
    """Return the axes of a variable, with their lengths but for that of one axis."""
    names, shape = item.schema.dimensions, item.shape
    parts = (name if i == axis else f"{name}={size}" for i, (name, size) in enumerate(zip(names, shape, strict=False)))
    return f"({', '.join(parts)})" if len(names) == len(shape) else f"{shape}"


def measure_files(context: Context, path: str, by_file: ByFile) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """Return the elements along the dimension that each file contributes, and those that it leaves out before.

    None if that is not known of a file, which is then refused.
    """
    rules, findings = context.rules, context.findings
    scope = context.find_scope(path)
    cuts = context.cuts.get(scope or "")
    lengths = [1 if rules.new else measure(item, rules.dim) for item in by_file]
    if cuts is not None:
        wholes = [measure(item, rules.dim) for item in context.find(scope or "")]
        odd = [i for i, item in enumerate(by_file) if item is not None and lengths[i] != wholes[i]]
        if odd:
            what = f"it has another length along {rules.dim} than {scope}"
            findings.leave_out(path, what, odd)
            return None, cuts.skips
        return cuts.counts, cuts.skips
    for i, item in enumerate(by_file):
        if item is None and not rules.new:
            lengths[i] = find_length(context, i, scope)
    unknown = [i for i, length in enumerate(lengths) if length < 0]
    if unknown:
        what = f"it is missing, and nothing says how long {rules.dim} is"
        findings.leave_out(path, what, unknown)
        return None, np.zeros(len(by_file), np.int64)
    return np.array(lengths, np.int64), np.zeros(len(by_file), np.int64)


def measure(item: VariableScan | None, dim: str) -> int:
    """Return the length of a variable along a dimension; 1 without it, 0 without the variable."""
    axis = None if item is None else item.find_axis(dim)
    return 0 if item is None else 1 if axis is None else item.shape[axis]


def find_length(context: Context, number: int, scope: str | None) -> int:
    """Return how long the dimension is in a file that lacks a variable; -1 if its others do not agree."""
    dim = context.rules.dim
    variables = context.scans[number].variables
    lengths = {
        measure(item, dim)
        for path, item in variables.items()
        if item.find_axis(dim) is not None and context.find_scope(path) == scope
    }
    return lengths.pop() if len(lengths) == 1 else -1


def list_variants(context: Context, path: str, by_file: ByFile) -> list[Variant]:
    """Return the files grouped by what their values mean, that of the first file first."""
    variants: dict[Hashable, Variant] = {}
    seen: dict[Hashable, Hashable] = {}  # files that share the records of one scan are compared once
    for i, item in enumerate(by_file):
        if item is None:
            continue
        details = context.scans[i].details.get(path, EMPTY)
        times = find_times(context, path, i)
        short = (id(item.schema), id(item.attributes), id(details), times)
        key = seen.get(short)
        variant = Variant(
            schema=item.schema,
            attributes=item.attributes,
            details=details,
            times=times,
            numbers=[i],
            values=[item.values],
        )
        if key is None:
            schema = item.schema
            key = seen[short] = (schema.form, schema.dtype, schema.hdf5_type, variant.packing_text, times)
        if key in variants:
            variants[key].numbers.append(i)
            variants[key].values.append(item.values)
        else:
            variants[key] = variant
    return list(variants.values())


def find_times(context: Context, path: str, number: int) -> tuple[Any, Any]:
    """Return unit and calendar of times in a file, for bounds those of their coordinate; None for other values."""
    variables = context.scans[number].variables
    for name in (path, context.bounds.get(path)):
        item = variables.get(name or "")
        if item is not None and is_time(item.attributes.get("units")):
            return item.attributes["units"], str(item.attributes.get("calendar", ""))
    return None, None


def drop_attributes(
    values: Mapping[str, Any], details: Mapping[str, Any], dropped: Collection[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return attributes and details without those of some names."""
    entries = {name: entry for name, entry in details.get("attributes", {}).items() if name not in dropped}
    kept = {name: value for name, value in details.items() if name != "attributes"}
    if entries:
        kept["attributes"] = entries
    return {name: value for name, value in values.items() if name not in dropped}, kept


def add_axis(schema: VariableSchema, dim: str) -> VariableSchema:
    """Return the schema with a new first axis, along which each chunk has one element."""
    chunks = None if schema.chunks is None else (1, *schema.chunks)
    return replace(schema, dimensions=(dim, *schema.dimensions), chunks=chunks)


def is_copied(own: VariableSchema, store: VariableSchema) -> bool:
    """Return whether the encoded chunks of a file are those of the store."""
    if own is store:
        return True
    wanted = (store.dtype, store.layout, store.chunks, list_decoders(store))
    return (own.dtype, own.layout, own.chunks, list_decoders(own)) == wanted


def list_decoders(schema: VariableSchema) -> list[tuple[int, Sequence[int]]]:
    """Return what the filters of a variable need to be decoded: of deflate not the level."""
    return [(entry.id, () if entry.id == h5z.FILTER_DEFLATE else entry.options) for entry in schema.filters]


def note_storage(context: Context, path: str, by_file: ByFile) -> None:
    """Note which files store a variable in another way, so that its chunks are not copied."""
    _, first = find_first(by_file)
    for name, what in (("layout", "layout"), ("chunks", "chunks"), ("filters", "filters"), ("fill", "fill value")):
        read = list_decoders if name == "filters" else attrgetter(name)
        wanted = read(first.schema)
        others = [
            i
            for i, item in enumerate(by_file)
            if item is not None and item.schema is not first.schema and read(item.schema) != wanted
        ]
        if others:
            action = "written" if name == "fill" else "decoded, and encoded as in the first file"
            verb = "differ" if what.endswith("s") else "differs"
            context.findings.note(path, f"the {what} {verb}", others, action=action)
