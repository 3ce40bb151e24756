"""Series of netCDF files of two steps or so each, which differ in one way, with the values of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from bench.awkward_cases import REFUSED, Case

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STEPS = np.array([280.25, 281.5, 279.75, 290.5])
"""Values of the four steps of a file, in kelvin, each exact in units of 0.25."""


def write_file(path: Path, number: int, /, **differing: Any) -> None:
    """Write a file of the series, which differs from the others in what is given."""
    start, count = differing.get("start", 4 * number), differing.get("count", 4)
    raw = differing.get("raw", STEPS[np.arange(count) % 4] + number)
    with h5py.File(path, "w") as file:
        file["time"] = np.arange(start, start + count, dtype="f8")
        file["time"].attrs["units"] = differing.get("since", "hours since 2026-01-01")
        file["lat"] = differing.get("lat", np.array([10.0, 20, 30]))
        for scale in ("time", "lat"):
            file[scale].make_scale(scale)
        if differing.get("missing"):
            return
        data = np.repeat(np.asarray(raw, differing.get("dtype", "f8"))[:, None], 3, 1)
        file.create_dataset("x", data=data, chunks=differing.get("chunks", (2, 3)), compression=differing.get("filter"))
        file["x"].attrs.update({"units": "K", **differing.get("attrs", {})})
        file["x"].dims[0].attach_scale(file["time"])
        file["x"].dims[1].attach_scale(file["lat"])


ALL = np.repeat(np.concatenate([STEPS, STEPS + 1])[:, None], 3, 1)
"""What two files hold together."""


def series(first: dict[str, Any], second: dict[str, Any], expected: Any = ALL) -> Case:
    """Return the case of two files."""

    def write(folder: Path) -> Mapping[str, Any]:
        folder.mkdir()
        write_file(folder / "0.nc", 0, **first)
        write_file(folder / "1.nc", 1, **second)
        return {"x": expected}

    return Case(write, series=True)


def pack(values: Any, scale: float, offset: float) -> dict[str, Any]:
    """Return what makes a file of 16-bit integers."""
    return {
        "raw": np.round((values - offset) / scale),
        "dtype": "i2",
        "attrs": {"scale_factor": scale, "add_offset": offset},
    }


FIVE = np.concatenate([STEPS, STEPS[:1], STEPS + 1])[:, None]
HOURS = {"time": np.datetime64("2026-01-01", "ns") + np.arange(8) * np.timedelta64(1, "h")}


def write_dates(folder: Path) -> Mapping[str, Any]:
    folder.mkdir()
    write_file(folder / "0.nc", 0)
    write_file(folder / "1.nc", 1, start=0, since="hours since 2026-01-01 04:00:00")
    return {"x": ALL, **HOURS}


def mark(value: float) -> dict[str, Any]:
    """Return a file in which one step is marked as missing by a value."""
    return {"raw": [1.0, value, 3, 4], "attrs": {"_FillValue": value}}


HALF = np.where(np.arange(8)[:, None] < 4, ALL, np.nan)
MISSING = np.repeat(np.array([1, np.nan, 3, 4] * 2)[:, None], 3, 1)

SERIES: Mapping[str, Case] = {
    "files that fit": series({}, {}),
    "a length that is no multiple of the chunks": series({"count": 5}, {"start": 5}, np.repeat(FIVE, 3, 1)),
    "different chunks": series({}, {"chunks": (4, 3)}),
    "different filters": series({}, {"filter": "gzip"}),
    "float64 and float32": series({}, {"dtype": "f4"}),
    "different `scale_factor`": series(pack(STEPS, 0.25, 280), pack(STEPS + 1, 0.125, 280)),
    "different `_FillValue`": series(mark(-999.0), mark(-1.0), MISSING),
    "different units of times": Case(write_dates, series=True),
    "kelvin and degrees Celsius": series({}, {"attrs": {"units": "degC"}}, REFUSED),
    "shifted latitudes": series({}, {"lat": np.array([10.5, 20.5, 30.5])}, REFUSED),
    "a variable that one file lacks": series({}, {"missing": True}, HALF),
    "the same times twice": series({}, {"start": 0}),
}
"""All series. An error is expected where no store of one grid and one unit can hold what is in the files."""
