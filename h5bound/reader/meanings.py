"""What the numbers of a dataset mean: the attributes that say it, as text that is the same for the same meaning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from h5py import Dataset, h5a, h5d, h5l, h5o

from h5bound.hdf5.attributes import read_values
from h5bound.hdf5.links import decode_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.reader.open_file import OpenFile

PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")
"""Attributes by which numbers are unpacked (CF Conventions, sections 2.5.1 and 8.1)."""

TIMES = ("units", "calendar")
"""Attributes that say what times are, and other quantities (CF Conventions, sections 3.1 and 4.4)."""

CALENDARS = {"gregorian": "standard", "365_day": "noleap", "366_day": "all_leap"}
"""Second names of calendars (CF Conventions, 4.4.1)."""

BOUNDS = (b"bounds", b"climatology")
"""Attributes of a coordinate that name the dataset with the bounds of its cells (CF Conventions, 7.1 and 7.4)."""


class MeaningReader:
    """Reads what the numbers of datasets mean; the coordinates of a file that have bounds are found once."""

    def __init__(self) -> None:
        self._bounded: WeakKeyDictionary[OpenFile, dict[str, dict[str, str]]] = WeakKeyDictionary()

    def read(self, opened: OpenFile, dataset: Dataset, record: DatasetRecord) -> str:
        """Return the attributes in PACKING and TIMES as JSON text, with numbers bit for bit, and calendars by one name.

        Bounds without units have those of their coordinate.
        """
        found = read_meaning(dataset, (*PACKING, *TIMES))
        is_bounds = record.dtype is not None and record.dtype.kind in "iuf" and len(record.shape or ()) > 1
        if is_bounds and "units" not in found:
            group, _, own = record.path.rpartition("/")
            coordinate = self._find_bounded(opened, group or "/").get(own)
            if coordinate is not None:
                values = read_meaning(opened.open_dataset(f"{group}/{coordinate}"), TIMES)
                found |= {f"{name} of {coordinate}": value for name, value in values.items()}
        return json.dumps(found, sort_keys=True)

    def _find_bounded(self, opened: OpenFile, group: str) -> dict[str, str]:
        """Return the names of the coordinates in a group, by those of their bounds."""
        known = self._bounded.setdefault(opened, {})
        if group not in known:
            known[group] = {}
            parent = opened.open_object(group).id
            for name in parent:
                if parent.links.get_info(name).type != h5l.TYPE_HARD:
                    continue
                item = h5o.open(parent, name)
                if isinstance(item, h5d.DatasetID) and any(h5a.exists(item, attribute) for attribute in BOUNDS):
                    values = read_values(Dataset(item), only=BOUNDS).values()
                    known[group] |= {value: decode_name(name) for value in values if isinstance(value, str)}
        return known[group]


def read_meaning(dataset: Dataset, names: Sequence[str]) -> dict[str, Any]:
    """Return attributes as JSON; times without a calendar have the standard one."""
    values = read_values(dataset, only=[name.encode() for name in names])
    if " since " in str(values.get("units")):
        calendar = values.get("calendar", "standard")
        values["calendar"] = CALENDARS.get(calendar, calendar) if isinstance(calendar, str) else calendar
    return {name: describe(value) for name, value in values.items()}


def describe(value: Any) -> Any:
    """Return the value of an attribute as JSON, numbers in one order of bytes.

    >>> describe(np.array([7], ">i2")) == describe(np.array([7], "<i2"))
    True
    """
    if not isinstance(value, (np.ndarray, np.generic)):
        return value if isinstance(value, str) else repr(value)
    if value.dtype.kind in "iufc":
        value = value.astype(value.dtype.newbyteorder("<"))
    return [value.dtype.str, value.tobytes().hex()]


def list_differing(first: str, other: str) -> list[str]:
    """Return the names of the attributes that differ between two texts of `MeaningReader.read`."""
    found, wanted = json.loads(other), json.loads(first)
    return [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]


def is_packed(meaning: str) -> bool:
    """Return whether numbers are packed, by a text of `MeaningReader.read`."""
    return not {"scale_factor", "add_offset"}.isdisjoint(json.loads(meaning))


def describe_meanings(first: str, other: str) -> str:
    """Return the attributes that differ between two texts of `MeaningReader.read`.

    >>> describe_meanings('{"units": "m", "scale_factor": ["<f4", "0000003f"]}', '{"units": "m"}')
    'scale_factor is absent, not 0.5'
    """
    texts = [json.loads(other), json.loads(first)]
    names = list_differing(first, other)
    parts = [(name, *(describe_value(item.get(name)) for item in texts)) for name in names]
    return ", ".join(
        f"{name} is {own}" + (f", not {its}" if own != its else " of another type") for name, own, its in parts
    )


def describe_value(value: Any) -> str:
    """Return a value of `describe` in words."""
    if not isinstance(value, list):
        return "absent" if value is None else repr(value)
    numbers = np.frombuffer(bytes.fromhex(value[1]), value[0]).tolist()
    return str(numbers[0] if len(numbers) == 1 else numbers)


def advise(first: str, other: str) -> str:
    """Return what `ZarrStore` and `combine` do with datasets whose numbers mean something else; "" if nothing does.

    >>> advise('{"units": "days since 2000-01-01"}', '{"units": "hours since 2000-01-01"}')
    'ZarrStore and combine bring times to the units of the first file, where that is exact'
    >>> advise('{"units": "K"}', '{"units": "degC"}')
    ''
    """
    names = list_differing(first, other)
    values = [json.loads(text).get(name) for text in (first, other) for name in names]
    if all(name in PACKING for name in names) and all(value is None or isinstance(value, list) for value in values):
        return "ZarrStore and combine join them with unpack='float64'"
    is_time = all(name.startswith("units") for name in names) and all(" since " in str(value) for value in values)
    return "ZarrStore and combine bring times to the units of the first file, where that is exact" if is_time else ""
