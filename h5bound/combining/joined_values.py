"""Which values of each file have to be converted so that one array can hold those of all: types, packing, times."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.buffers import is_exact
from h5bound.combining.conversions import Conversion
from h5bound.combining.differences import LEAVE_OUT
from h5bound.combining.file_scan import write_json
from h5bound.combining.joined_attributes import shorten_value
from h5bound.combining.packing import PACKED_UNITS, Packing, find_repacking, read_numbers
from h5bound.combining.time_units import move_times, parse_units
from h5bound.errors import UnsupportedError
from h5bound.reader.meanings import PACKING, TIMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from h5bound.combining.differences import Findings
    from h5bound.combining.file_scan import VariableSchema
    from h5bound.combining.joined import Rules
    from h5bound.zarr_model.byte_layout import Array

DURATIONS = frozenset({"days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds"})
"""Units that xarray decodes as durations."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Variant:
    """Files whose values of a variable mean the same."""

    schema: VariableSchema
    attributes: Mapping[str, Any]
    details: Mapping[str, Any]
    times: tuple[Any, Any]
    """Unit and calendar, perhaps of the coordinate that the variable has the bounds of."""
    numbers: list[int]
    """The numbers of the files."""
    values: list[Array | None]
    """The values of a coordinate in each file."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""
        return np.dtype(self.schema.dtype)

    @property
    def packing_text(self) -> str:
        """Text that is the same for the same packing."""
        entries = self.details.get("attributes", {})
        return write_json(
            {name: [self.attributes[name], entries.get(name)] for name in PACKING if name in self.attributes}
        )


@dataclass(frozen=True, slots=True, eq=False)
class Meaning:
    """What the values of all files become."""

    dtype: str
    conversions: Sequence[Conversion | None]
    """For each variant."""
    handled: frozenset[str] = frozenset()
    """Attributes that may differ, since the values are converted."""
    dropped: frozenset[str] = frozenset()
    """Attributes that the values do not have any more."""


def plan_values(path: str, variants: Sequence[Variant], *, rules: Rules, findings: Findings) -> Meaning:
    """Return the conversions of the values of a variable, by variant; the first one is that of the first file.

    What has no exact conversion, or needs an option, is added to `findings`.
    """
    first = variants[0]
    same = Meaning(first.schema.dtype, [None] * len(variants))
    all_text = all(is_text(variant.schema) for variant in variants)
    if all_text and len({set_length(variant.schema.hdf5_type, 0) for variant in variants}) == 1:
        return plan_text(path, variants, rules, findings=findings)
    if not all(is_number(variant.schema) for variant in variants) and not are_complex(variants):
        match_types(path, variants, findings)
        return same
    scaled = {"scale_factor", "add_offset"} & first.attributes.keys()
    if len({(variant.packing_text, variant.dtype.newbyteorder("=") if scaled else None) for variant in variants}) > 1:
        return plan_packing(path, variants, rules, findings=findings)
    dtype = plan_type(path, variants, rules, findings=findings)
    if any(variant.times != first.times for variant in variants):
        return plan_times(path, variants, dtype, findings=findings)
    return same if dtype is None else Meaning(dtype, promote(variants, dtype))


def promote(variants: Sequence[Variant], dtype: str) -> list[Conversion | None]:
    """Return the conversions to a type that has all values; None where it is the same type."""
    return [None if variant.schema.dtype == dtype else Conversion(kind="promote", dtype=dtype) for variant in variants]


def is_number(schema: VariableSchema, codes: str = "iuf") -> bool:
    """Return whether values are plain numbers, with no names or other meaning in HDF5."""
    return schema.form == "plain" and schema.hdf5_type == "{}" and np.dtype(schema.dtype).kind in codes


def are_complex(variants: Sequence[Variant]) -> bool:
    """Return whether values are numbers, some of them complex, which no attribute packs, masks or makes times."""
    known = {(variant.packing_text, *variant.times, is_number(variant.schema, "iufc")) for variant in variants}
    return known == {("{}", None, None, True)}


def is_text(schema: VariableSchema) -> bool:
    """Return whether values are text of fixed length that bytes of zero fill up."""
    return schema.form == "plain" and schema.dtype.startswith("|S") and "space-padded" not in schema.hdf5_type


def set_length(hdf5_type: str, nbytes: int) -> str:
    """Return the JSON text of the type of text with another length; "{}" stands for one byte.

    >>> set_length('{"type":{"class":"string","cset":"ascii","nbytes":3,"strpad":"null-padded"}}', 5)
    '{"type":{"class":"string","cset":"ascii","nbytes":5,"strpad":"null-padded"}}'
    """
    form = json.loads(hdf5_type)
    if isinstance(form.get("type"), dict):
        form["type"] = {**form["type"], "nbytes": nbytes}
    return write_json(form)


def plan_text(path: str, variants: Sequence[Variant], rules: Rules, *, findings: Findings) -> Meaning:
    """Return the conversions of text of fixed length to the length of the longest."""
    first, longest = variants[0], max(variants, key=lambda variant: variant.dtype.itemsize)
    dtype = longest.schema.dtype
    others = [i for variant in variants if variant.schema.dtype != first.schema.dtype for i in variant.numbers]
    what = f"text has {first.dtype.itemsize} bytes in the first file, and {longest.dtype.itemsize} in the longest"
    if others and not rules.promote:
        findings.refuse(path, what, others, action="promote=True gives all the length of the longest")
        return Meaning(first.schema.dtype, [None] * len(variants))
    if others:
        findings.decide(path, what, others, action="all have that of the longest")
    return Meaning(dtype, promote(variants, dtype))


def match_types(path: str, variants: Sequence[Variant], findings: Findings) -> None:
    """Refuse other types than the first one, where values are more than numbers."""
    first = variants[0].schema
    for variant in variants[1:]:
        schema = variant.schema
        if (schema.form, schema.dtype, schema.hdf5_type) == (first.form, first.dtype, first.hdf5_type):
            continue
        if schema.form == first.form == "string":
            findings.note(path, "text of another encoding or padding in HDF5", variant.numbers)
            continue
        what = f"the type is {describe_type(first)} in the first file, then {describe_type(schema)}"
        findings.leave_out(path, what, variant.numbers)


def describe_type(schema: VariableSchema) -> str:
    """Return a type in words."""
    form = {"plain": "", "string": "", "bytes": ""}.get(schema.form, f"{schema.form} of ")
    more = "" if schema.hdf5_type == "{}" else f" {shorten_value(json.loads(schema.hdf5_type))}"
    return f"{form}{schema.dtype}{more}"


def plan_type(path: str, variants: Sequence[Variant], rules: Rules, *, findings: Findings) -> str | None:
    """Return the type that has the values of all variants; None if there is none, or it was not asked for."""
    first = variants[0]
    if all(variant.schema.dtype == first.schema.dtype for variant in variants):
        return first.schema.dtype
    native = [variant.dtype.newbyteorder("=") for variant in variants]
    others = [i for variant in variants if variant.schema.dtype != first.schema.dtype for i in variant.numbers]
    if len(set(native)) == 1:
        findings.note(path, "the order of bytes is another one", others, action="that of the first file")
        return first.schema.dtype
    wider = reduce(np.promote_types, native)
    names = sorted({str(item) for item in native if item != native[0]})
    what = f"the type is {native[0]} in the first file, then {', '.join(names)}"
    if not all(is_exact(item, wider) for item in native):
        action = f"no type of numpy has all values of these; {LEAVE_OUT.format(path)}"
        findings.refuse(path, what, others, action=action, option=False)
        return None
    if not rules.promote:
        findings.refuse(path, what, others, action=f"promote=True makes all {wider}")
        return None
    findings.decide(path, what, others, action=f"all are {wider}")
    return first.schema.dtype if wider == native[0] else wider.str


def plan_packing(path: str, variants: Sequence[Variant], rules: Rules, *, findings: Findings) -> Meaning:
    """Return the conversions of values whose packing differs."""
    first = variants[0]
    same = Meaning(first.schema.dtype, [None] * len(variants), frozenset(PACKING))
    key = (first.packing_text, first.schema.dtype)
    others = [number for it in variants if (it.packing_text, it.schema.dtype) != key for number in it.numbers]
    what = f"the packing differs: {describe_packing(variants)}"
    try:
        packings = [Packing.of(variant.schema.dtype, variant.attributes, variant.details) for variant in variants]
    except UnsupportedError as error:
        findings.leave_out(path, f"{what}: {error}", others)
        return same
    if any(variant.times != first.times for variant in variants):
        action = f"packed times cannot be brought to other units; {LEAVE_OUT.format(path)}"
        findings.refuse(path, what, others, action=action, option=False)
        return same
    found = repack(variants, packings) or promote_masked(path, variants, packings, rules=rules, findings=findings)
    if found is not None:
        findings.note(path, what, others, action="xarray decodes the same values with that of the first file")
        return found
    is_time_like = first.times[0] is not None or str(first.attributes.get("units")) in DURATIONS
    is_wide = any(packing.decode(np.zeros(0, packing.dtype)).dtype.itemsize > 4 for packing in packings)
    if is_time_like or rules.unpack is None:
        action = "unpack='float32' or unpack='float64' stores the values that xarray decodes"
        action = f"{action}{', float32 rounded' if is_wide else ''}"
        action = f"packed times are not unpacked; {LEAVE_OUT.format(path)}" if is_time_like else action
        findings.refuse(path, what, others, action=action, option=not is_time_like)
        return same
    dtype = np.dtype(rules.unpack)
    is_rounded = is_wide and dtype.itemsize == 4
    action = f"all are unpacked to {rules.unpack}{', rounded from float64' if is_rounded else ''}"
    findings.decide(path, what, others, action=action)
    conversions = [Conversion(kind="unpack", dtype=dtype.str, packing=packing) for packing in packings]
    names = frozenset((*PACKING, *PACKED_UNITS))
    return Meaning(dtype.str, conversions, names, names)


def repack(variants: Sequence[Variant], packings: Sequence[Packing]) -> Meaning | None:
    """Return conversions to the packing of the first variant that change no decoded value; None if there are none."""
    conversions: list[Conversion | None] = []
    for packing in packings:
        change = find_repacking(packings[0], packing)
        if change is None:
            return None
        replaced, by = change
        dtype = variants[0].schema.dtype
        conversions.append(Conversion(kind="repack", dtype=dtype, replaced=replaced, by=by) if replaced.data else None)
    return Meaning(variants[0].schema.dtype, conversions, frozenset(PACKING))


def promote_masked(
    path: str, variants: Sequence[Variant], packings: Sequence[Packing], *, rules: Rules, findings: Findings
) -> Meaning | None:
    """Return conversions to a wider type of values that are packed alike; None if they are not."""
    first = packings[0]
    alike = all(
        (first.scale_factor, first.add_offset, first.unsigned, first.list_raw_masked())
        == (other.scale_factor, other.add_offset, other.unsigned, other.list_raw_masked())
        for other in packings
    )
    if not alike or first.is_packed or first.unsigned is not None or len({packing.dtype for packing in packings}) == 1:
        return None
    dtype = plan_type(path, variants, rules, findings=findings) or variants[0].schema.dtype
    return Meaning(dtype, promote(variants, dtype), frozenset(PACKING))


def describe_packing(variants: Sequence[Variant]) -> str:
    """Return the attributes of packing that differ, in the first file and in the first that differs."""
    first = variants[0]
    other = next((variant for variant in variants if variant.packing_text != first.packing_text), None)
    if other is None:
        return f"the type is {' or '.join(sorted({str(variant.dtype) for variant in variants}))}"
    parts = []
    for name in PACKING:
        shown = [
            write_json([variant.attributes.get(name), variant.details.get("attributes", {}).get(name)])
            for variant in (first, other)
        ]
        if shown[0] != shown[1]:
            values = [describe_number(name, variant) for variant in (first, other)]
            parts.append(f"{name} is {values[0]}, then {values[1]}")
    return ", ".join(parts)


def describe_number(name: str, variant: Variant) -> str:
    """Return the value of an attribute of packing."""
    try:
        numbers = read_numbers(name, variant.attributes, variant.details)
    except UnsupportedError:
        return shorten_value(variant.attributes[name])
    return "absent" if numbers is None else ", ".join(f"{value} ({value.dtype})" for value in numbers.array[:3])


def plan_times(path: str, variants: Sequence[Variant], dtype: str | None, *, findings: Findings) -> Meaning:
    """Return the conversions of times to the units of the first file. `dtype` is their type; None if it is refused."""
    first = variants[0]
    kept = Meaning(dtype or first.schema.dtype, [None] * len(variants), frozenset(TIMES))
    conversions: list[Conversion | None] = []
    for variant in variants:
        try:
            change = find_change(variant, first)
            conversion = Conversion(kind="time", dtype=kept.dtype, factor=change[0], offset=change[1])
            if change == (Fraction(1), Fraction(0)):
                conversions += promote([variant], kept.dtype)
                continue
            check_change(variant, conversion)
            conversions.append(conversion)
        except UnsupportedError as error:
            what = f"times are {describe_times(first)} in the first file, then {describe_times(variant)}"
            action = f"write these times anew in the units of the first file, or {LEAVE_OUT.format(path)}"
            findings.refuse(path, f"{what}: {error}", variant.numbers, action=action, option=False)
    if len(conversions) < len(variants):
        return kept
    others = [variant for variant in variants if variant.times != first.times]
    more = ", …" if len({variant.times for variant in others}) > 1 else ""
    findings.note(
        path,
        f"times are {describe_times(first)} in the first file, then {describe_times(others[0])}{more}",
        [number for variant in others for number in variant.numbers],
        action="brought to those of the first file",
    )
    return replace(kept, conversions=conversions)


def describe_times(variant: Variant) -> str:
    """Return the units of times, and their calendar."""
    units, calendar = variant.times
    return f"{units or repr(variant.attributes.get('units', ''))}{f' ({calendar})' if calendar else ''}"


def find_change(variant: Variant, first: Variant) -> tuple[Fraction, Fraction]:
    """Return factor and offset that bring times to the units of the first file. Raise UnsupportedError if none do."""
    if variant.times == first.times:
        return Fraction(1), Fraction(0)
    for item in (variant, first):
        packing = Packing.of(item.schema.dtype, item.attributes, item.details)
        if packing.is_packed or packing.unsigned or packing.list_masked():
            raise UnsupportedError("they are packed, or have a fill value")
        if item.times[0] is None:
            raise UnsupportedError("these are no units of times")
    own, wanted = (parse_units(str(item.times[0]), str(item.times[1] or "")) for item in (variant, first))
    return own.convert_to(wanted)


def check_change(variant: Variant, conversion: Conversion) -> None:
    """Raise UnsupportedError if a time has no exact form in other units, as far as the values are known.

    Those that are not known are checked when they are converted.
    """
    dtype = np.dtype(conversion.dtype)
    whole = conversion.factor.denominator == conversion.offset.denominator == 1
    if dtype.kind != "f" and not whole and any(values is None for values in variant.values):
        raise UnsupportedError(f"not each time has a form of {dtype} there")
    for values in variant.values:
        if values is not None:
            move_times(values, conversion.factor, conversion.offset, dtype=dtype)
