"""A small file as of an instrument: a group with named dimensions and attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


def write_entry(path: Path) -> h5py.File:
    """Write the file, and return it open: `/entry/temperature` has the dimensions `/entry/time` and ``x``."""
    file = h5py.File(path, "w")
    entry = file.create_group("entry")
    entry.attrs["title"] = "cooling"
    time = entry.create_dataset("time", data=np.arange(3.0))
    time.make_scale("time")
    data = entry.create_dataset("temperature", data=np.ones((3, 40), ">f4"), chunks=(1, 40), compression="gzip")
    data.dims[0].attach_scale(time)
    data.dims[1].label = "x"
    data.attrs["units"] = "K"
    return file
