"""Attributes of many files as one node of the store has them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.file_scan import write_json
from h5bound.combining.joined import AttributeTable
from h5bound.hdf5.type_json import TEXT_TYPE

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence

    from h5bound.combining.differences import Findings
    from h5bound.combining.joined import Rules

IGNORED = frozenset({"_NCProperties"})
"""Attributes of the software that wrote a file: those of the first file stand for all."""

MAX_SHOWN = 40
"""Characters of a value that a row shows."""

MAX_COMPARED = 28
"""Characters of each of two values that a row shows, and most of those before the first that differs."""


@dataclass(frozen=True, slots=True)
class NodeAttributes:
    """The attributes of one node in one file, or None in their place where the file lacks the node."""

    values: Mapping[str, Any]
    """As the store has them."""
    details: Mapping[str, Any]
    """What the node does not say of them, and of itself."""

    def list_names(self) -> list[str]:
        """Return the names of all attributes, also of those that only the details have."""
        return list(dict.fromkeys([*self.values, *self.details.get("attributes", {})]))

    def write(self, name: str) -> str:
        """Return the text that is the same for the same value of an attribute in HDF5; "" without it."""
        entry = self.details.get("attributes", {}).get(name)
        if name not in self.values and entry is None:
            return ""
        return write_json([self.values.get(name), entry])

    def write_shown(self, name: str) -> str:
        """Return the text that is the same for the same value of an attribute in the store; "" without it."""
        return write_json(self.values[name]) if name in self.values else ""

    def is_text(self, name: str) -> bool:
        """Return whether an attribute is one text, of any length, encoding and padding in HDF5."""
        dtype = self.details.get("attributes", {}).get(name, {}).get("type", TEXT_TYPE)
        return isinstance(self.values.get(name), str) and isinstance(dtype, dict) and dtype["class"] == "string"


def join_attributes(
    path: str,
    nodes: Sequence[NodeAttributes | None],
    *,
    handled: Collection[str],
    rules: Rules,
    findings: Findings,
) -> tuple[dict[str, Any], dict[str, Any], list[AttributeTable]]:
    """Return the attributes of a node, its details, and a table of each attribute that is kept by file.

    Those of the names in `handled` are those of the first file: others decide whether they may differ.
    """
    first = next(node for node in nodes if node is not None)
    values, tables = dict(first.values), []
    details = dict(first.details)
    entries = dict(details.get("attributes", {}))
    for name, numbers in find_differing(nodes).items():
        if name in handled or name in IGNORED:
            continue
        odd = np.flatnonzero(numbers > 0)
        what = describe_attribute(name, nodes, numbers)
        present = [node for node in nodes if node is not None]
        is_same = len({node.write_shown(name) for node in present}) == 1
        if is_same and all(node.is_text(name) for node in present):  # netCDF-C and h5netcdf store the same text so
            findings.note(path, what, odd, action="as the first file has it")
        elif rules.attributes == "refuse":
            action = (
                "attributes='first' takes those of the first file, attributes='table' keeps all in h5bound.json only"
            )
            findings.refuse(path, what, odd, action=action)
        elif rules.attributes == "first" or is_same:
            findings.decide(path, what, odd, action="as the first file has it")
        else:
            findings.decide(path, what, odd, action="kept by file in h5bound.json only")
            tables.append(make_table(path, name, nodes))
            values.pop(name, None)
            entries.pop(name, None)
    if "attributes" in details:
        details["attributes"] = entries
    return values, {name: value for name, value in details.items() if value != {}}, tables


def find_differing(nodes: Sequence[NodeAttributes | None]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the names of attributes that are not the same in all files, with the number of its value in each.

    0 is the value of the first file that has the node; -1 stands for a file without it.
    """
    classes: dict[Hashable, int] = {}  # files that share the records of one scan are compared once
    members = np.full(len(nodes), -1, np.int64)
    kinds: list[NodeAttributes] = []
    for i, node in enumerate(nodes):
        if node is not None:
            key = (id(node.values), id(node.details))
            if key not in classes:
                classes[key] = len(kinds)
                kinds.append(node)
            members[i] = classes[key]
    names = dict.fromkeys(name for kind in kinds for name in kind.list_names())
    found = {}
    for name in names:
        texts: dict[str, int] = {}
        numbers = np.array([texts.setdefault(kind.write(name), len(texts)) for kind in kinds], np.int64)
        if len(texts) > 1:
            found[name] = np.where(members < 0, -1, numbers[members])
    return found


def describe_attribute(name: str, nodes: Sequence[NodeAttributes | None], numbers: np.ndarray[Any, Any]) -> str:
    """Return what an attribute is in the first file, and in the first of those that differ."""
    texts = []
    for number in (0, 1):
        node = nodes[int(np.flatnonzero(numbers == number)[0])]
        assert node is not None
        texts.append(node.write_shown(name) or "absent")
    if texts[0] == texts[1]:
        return f"the attribute {name} has another type{', or another NaN' if 'NaN' in texts[0] else ''}"
    shown = shorten_both(*texts)
    others = ", …" if numbers.max() > 1 else ""
    return f"the attribute {name} is {shown[0]} in the first file, then {shown[1]}{others}"


def shorten_both(first: str, second: str) -> tuple[str, str]:
    """Return two texts in few characters, among them the first that differ.

    >>> shorten_both("Tue Jun 30 12:00:00 2026: ncks -O in/day1.nc", "Tue Jun 30 12:00:00 2026: ncks -O in/day2.nc")
    ('…ncks -O in/day1.nc', '…ncks -O in/day2.nc')
    """
    pairs = enumerate(zip(first, second, strict=False))
    start = next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))
    start = max(start - MAX_COMPARED // 2, 0) if max(len(first), len(second)) > MAX_COMPARED else 0
    return cut_start(first, start), cut_start(second, start)


def cut_start(text: str, start: int) -> str:
    """Return few characters of a text from `start` on."""
    return cut_end(f"…{text[start:]}" if start else text, MAX_COMPARED)


def shorten_value(value: Any) -> str:
    """Return a value in few characters."""
    return cut_end(write_json(value), MAX_SHOWN)


def cut_end(text: str, length: int) -> str:
    """Return a text in at most so many characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def make_table(path: str, name: str, nodes: Sequence[NodeAttributes | None]) -> AttributeTable:
    """Return the table of an attribute."""
    texts = ["" if node is None else node.write_shown(name) for node in nodes]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(filter(None, texts)))}
    return AttributeTable(
        path=path,
        name=name,
        values=tuple(map(json.loads, numbers)),
        numbers=np.array([numbers.get(text, -1) for text in texts], np.int64),
    )
