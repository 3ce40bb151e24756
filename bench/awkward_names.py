"""HDF5 files with awkward names, links and attributes, and files that are damaged or change."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from bench.awkward_cases import CHUNKS, EXTERNAL, GZIP, REFUSED, VALUES, Case, build, save

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def link(kind: str) -> Callable[[h5py.File], dict[str, Any]]:
    def make(file: h5py.File) -> dict[str, Any]:
        file.create_dataset("data", data=VALUES, **GZIP)
        file.create_group("g")
        if kind == "external":
            with h5py.File(f"{file.filename}.source", "w") as source:
                source["data"] = VALUES
            file["g/x"] = h5py.ExternalLink(f"{file.filename}.source", "/data")
        else:
            file["g/x"] = h5py.SoftLink("/data") if kind == "soft" else file["data"]
        return {"data": VALUES, "g/x": VALUES}

    return make


def write_cycle(file: h5py.File) -> dict[str, Any]:
    file.create_dataset("a/b/x", data=VALUES, **GZIP)
    file["a/b/up"] = file["a"]
    return {"a/b/x": VALUES}


def name(text: str) -> Case:
    """Return the case of a dataset of an awkward name."""

    def make(file: h5py.File) -> dict[str, Any]:
        file[text] = VALUES
        return {text: VALUES}

    return build(make)


def write_folded(file: h5py.File) -> dict[str, Any]:
    file["T"], file["t"] = VALUES, VALUES + 1
    return {"T": VALUES, "t": VALUES + 1}


def attribute(value: Any, expected: Any = None, **options: Any) -> Case:
    def make(file: h5py.File) -> dict[str, Any]:
        file["x"] = VALUES
        file["x"].attrs.create("a", value, **options)
        return {"x": VALUES, "x@a": value if expected is None else expected}

    return build(make)


def write_pointing(file: h5py.File) -> dict[str, Any]:
    file["data"], file["x"] = VALUES, VALUES
    file["x"].attrs["a"] = file["data"].ref
    return {"x": VALUES, "x@a": "/data"}


def write_empty_attribute(file: h5py.File) -> dict[str, Any]:
    file["x"] = VALUES
    file["x"].attrs["a"] = h5py.Empty("f4")
    return {"x": VALUES, "x@a": None}


def write_damaged(path: Path) -> dict[str, Any]:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VALUES, fletcher32=True, **CHUNKS)
        place = file["x"].id.get_chunk_info(1).byte_offset
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    return {"x": REFUSED}


def write_cut(path: Path) -> dict[str, Any]:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VALUES, **CHUNKS)
    os.truncate(path, path.stat().st_size - 1000)
    return {"x": REFUSED}


def write_again(path: Path) -> None:
    """Write other values to the file."""
    with h5py.File(path, "w") as file:
        file["before"] = np.zeros(100)
        file.create_dataset("x", data=VALUES + 1, **CHUNKS)
    os.utime(path, (path.stat().st_mtime + 3600,) * 2)  # some look at whole seconds


COPIED = {"links": "copy"}

NAME_CASES: Mapping[str, Mapping[str, Case]] = {
    "Names and links": {
        "name with a backslash": name("a\\b"),
        "name with a colon and a question mark": name("a:b?"),
        "name `..`": name(".."),
        "name `zarr.json`": name("zarr.json"),
        "names `T` and `t`": build(write_folded),
        "soft link": build(link("soft"), options=COPIED),
        "second hard link": build(link("hard"), options=COPIED),
        "external link": build(link("external"), options=EXTERNAL),
        "groups in a circle": build(write_cycle),
    },
    "Attributes": {
        "NaN": attribute(np.nan),
        "2^62 + 1": attribute(2**62 + 1),
        "complex number": attribute(1 + 2j),
        "empty": build(write_empty_attribute),
        "text that is not UTF-8": attribute(b"\xb0C", dtype=h5py.string_dtype()),
        "reference": build(write_pointing),
    },
    "Damage and change": {
        "damaged chunk with a checksum": Case(write_damaged),
        "truncated file": Case(write_cut),
        "file written again after it was opened": Case(save(**CHUNKS).write, after=write_again),
    },
}
"""What is awkward around a dataset."""
