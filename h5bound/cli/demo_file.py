"""The HDF5 file of `h5bound demo`: measurements of a small observatory, stored as in real files.

It has groups, dimension scales, attributes of most types, datasets with gzip and shuffle, with lzf, without a filter
and with chunks that were never written, a table with text and flags, a soft link and a second hard link.
"""

from __future__ import annotations

import os
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

if TYPE_CHECKING:
    from os import PathLike


SEED = 20261122
"""Of the random values, which are the same in each demo."""

FRAMES, HEIGHT, WIDTH = 96, 512, 512
"""Shape of the camera's images: 48 MiB of 16-bit integers, half of that once compressed."""

STATIONS, HOURS = 48, 24 * 365
"""Shape of the weather record: hourly values of one year at each station."""

TITLE = "One night and one year at a small observatory"


def is_demo(path: str | PathLike[str]) -> bool:
    """Return whether `write_demo` made this file."""
    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("title") == TITLE)
    except OSError:
        return False


def list_next_steps(source: Path, target: Path) -> list[str]:
    """Return commands to run on the file and on the store, with a comment above each."""
    file, store = str(source), str(target)
    steps = [
        "# what the file holds, and how each dataset is stored and read",
        f"h5bound ls {shlex.quote(file)}",
        "# its datasets as dask arrays",
        f"""python -c "import h5bound; print(h5bound.H5Store({file!r}))\"""",
        "# the store, without h5bound",
        f"""python -c "import zarr; print(zarr.open({store!r}).tree())\"""",
    ]
    if find_spec("xarray") is not None:
        steps.append(f"""python -c "import xarray; print(xarray.open_datatree({store!r}))\"""")
    return steps


def write_demo(path: str | PathLike[str], *, frames: int = FRAMES) -> None:
    """Write the file, about 60 MB of values, the same each time, and replace an existing one.

    It appears under its name once it is whole.
    """
    random, unfinished = np.random.default_rng(SEED), Path(f"{os.fspath(path)}.unfinished")
    with h5py.File(unfinished, "w") as file:
        file.attrs["title"] = TITLE
        file.attrs["Conventions"] = "CF-1.10"
        file.attrs["revision"] = np.int32(3)
        write_camera(file.create_group("camera"), random, frames)
        write_weather(file.create_group("weather"), random)
        write_catalogue(file.create_group("catalogue"), random)
        file["latest"] = h5py.SoftLink("/camera/images")
        file["catalogue/stars"] = file["catalogue/sources"]
    unfinished.replace(path)


def write_camera(group: h5py.Group, random: np.random.Generator, frames: int) -> None:
    """Write images of a gradient and a few stars with gzip and shuffle, and their mask with lzf."""
    group.attrs["exposure"] = np.float32(30.0)
    group.attrs["detector_size"] = np.array([HEIGHT, WIDTH], dtype=">i4")
    images = group.create_dataset(
        "images", shape=(frames, HEIGHT, WIDTH), dtype="u2", chunks=(8, 256, 256), compression="gzip",
        compression_opts=2, shuffle=True,
    )  # fmt: skip
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    sky = 200 + y // 16 + x // 32
    for row, column, brightness in ((100, 80, 9000), (300, 411, 4000), (402, 200, 20000)):
        sky = sky + (brightness * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 18)).astype(np.int64)
    for start in range(0, frames, 8):
        noise = random.standard_normal((min(8, frames - start), HEIGHT, WIDTH), np.float32)
        images[start : start + 8] = sky + 30 * noise
    images.attrs["units"] = "adu"
    images.attrs["gain"] = np.array([1.4, 1.5, np.nan])
    mask = group.create_dataset(
        "mask", data=random.random((HEIGHT, WIDTH)) > 0.999, chunks=(128, 128), compression="lzf"
    )
    mask.attrs["meaning"] = "True where a pixel is invalid"
    for axis, (name, length) in enumerate((("frame", frames), ("row", HEIGHT), ("column", WIDTH))):
        group[name] = np.arange(length, dtype="u4")
        group[name].make_scale(name)
        images.dims[axis].attach_scale(group[name])
    mask.dims[0].attach_scale(group["row"])
    mask.dims[1].attach_scale(group["column"])


def write_weather(group: h5py.Group, random: np.random.Generator) -> None:
    """Write temperature and wind by station and time, with dimension scales and fill values."""
    group["time"] = np.arange(HOURS, dtype="i8")
    group["time"].attrs["units"] = "hours since 2025-01-01 00:00:00"
    group["time"].make_scale("time")
    names = [f"station {i:02d} “{name}”" for i, name in zip(range(STATIONS), "αβγδ" * STATIONS, strict=False)]
    group.create_dataset("station", data=names, dtype=h5py.string_dtype())
    group["station"].make_scale("station")
    season = 10 * np.sin(2 * np.pi * np.arange(HOURS) / HOURS)
    temperature = (season + random.normal(scale=2, size=(STATIONS, HOURS))).astype("f4").round(1)
    temperature[random.random(temperature.shape) < 0.01] = -9999
    observed = group.create_dataset(
        "temperature", data=temperature, chunks=(16, 2190), compression="gzip", shuffle=True, fletcher32=True,
        fillvalue=np.float32(-9999),
    )  # fmt: skip
    observed.attrs["units"] = "degC"
    observed.attrs["_FillValue"] = np.array([-9999], dtype="f4")
    wind = group.create_dataset("wind", shape=(STATIONS, HOURS), dtype="f8", chunks=(24, 4380), fillvalue=np.nan)
    wind[:24] = random.gamma(2.0, 2.0, size=(24, HOURS))
    wind.attrs["comment"] = "the last 24 stations have no anemometer"
    for dataset in (observed, wind):
        dataset.dims[0].attach_scale(group["station"])
        dataset.dims[1].attach_scale(group["time"])


def write_catalogue(group: h5py.Group, random: np.random.Generator) -> None:
    """Write a table of sources with numbers, text and flags, and a few datasets of other types."""
    kinds = h5py.enum_dtype({"STAR": 0, "GALAXY": 1, "UNKNOWN": 9}, basetype="u1")
    count = 5000
    table = np.zeros(count, dtype=[("id", "<i8"), ("name", "S12"), ("flux", "<f4"), ("kind", "u1")])
    table["id"] = np.arange(count)
    table["name"] = [f"OBS{i:08d}".encode() for i in range(count)]
    table["flux"] = random.lognormal(size=count)
    table["kind"] = random.choice([0, 1, 9], size=count)
    group.create_dataset("sources", data=table, chunks=(1000,), compression="gzip", shuffle=True)
    group.create_dataset("kinds", data=table["kind"], dtype=kinds)
    group.create_dataset("spectrum", data=random.random(count) + 1j * random.random(count), chunks=(1000,))
    group.create_dataset("version", data="2026.1")
    group.create_dataset("remarks", data=h5py.Empty("f4"))
