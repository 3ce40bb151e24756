"""Types that h5py has no numpy type for, or no conversion: the bytes of the file in the store, and of arrays."""

from __future__ import annotations

import base64
import ctypes
import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr
from h5py import h5a, h5d, h5p, h5s, h5t

import h5bound
from h5bound.h5py_compat import find_library

if TYPE_CHECKING:
    from pathlib import Path


def bits(size: int, precision: int, offset: int) -> h5t.TypeID:
    """Return a bit field with unused bits."""
    library, kind = find_library(), h5t.STD_B64LE.copy()
    assert library is not None
    steps = (("H5Tset_precision", precision), ("H5Tset_offset", offset), ("H5Tset_size", size))
    for function, value in steps:
        assert getattr(library, function)(ctypes.c_int64(kind.id), ctypes.c_size_t(value)) >= 0
    return kind


def pair(member: h5t.TypeID) -> h5t.TypeID:
    """Return a compound of a type and a number."""
    kind = h5t.create(h5t.COMPOUND, member.get_size() + 4)
    kind.insert(b"odd", 0, member)
    kind.insert(b"number", member.get_size(), h5t.STD_I32LE)
    return kind


TYPES = {
    "a bit field of one big-endian byte": h5t.STD_B8BE,
    "a compound with one": pair(h5t.STD_B8BE),
    "a bit field of one bit": bits(1, 1, 6),
    "a bit field of 20 bits": bits(4, 20, 5),
    "an array of arrays": h5t.array_create(h5t.array_create(h5t.STD_I16LE, (2,)), (3,)),
    "an array of arrays of times": h5t.array_create(h5t.array_create(h5t.UNIX_D32LE, (2,)), (3,)),
}


def write(path: Path, kind: h5t.TypeID) -> bytes:
    """Write six elements, of which two are stored, and an attribute; return the bytes of the six."""
    rng = np.random.default_rng(5)
    fill, *stored = (bytes(rng.integers(0, 256, kind.get_size(), "u1")) for _ in range(3))
    plist, library = h5p.create(h5p.DATASET_CREATE), find_library()
    assert library is not None
    plist.set_chunk((2,))
    assert library.H5Pset_fill_value(ctypes.c_int64(plist.id), ctypes.c_int64(kind.id), fill) >= 0
    values = np.frombuffer(b"".join(stored), f"V{kind.get_size()}").copy()
    with h5py.File(path, "w") as file:
        dataset = h5d.create(file.id, b"x", kind, h5s.create_simple((6,)), plist)
        selected = dataset.get_space()
        selected.select_hyperslab((2,), (2,))
        dataset.write(h5s.create_simple((2,)), selected, values, kind)
        h5a.create(dataset, b"a", kind, h5s.create_simple((2,))).write(values, kind)
    return fill * 2 + b"".join(stored) + fill * 2


@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize("name", TYPES)
def test_values_attributes_and_fill_values_are_the_bytes_of_the_file(
    name: str, zarr_format: Any, tmp_path: Path
) -> None:
    raw = write(tmp_path / "a.h5", TYPES[name])

    report = h5bound.convert(tmp_path / "a.h5", tmp_path / "a.zarr", zarr_format=zarr_format, verify=True)

    assert report.exit_code == 0
    assert report.skipped == ()
    assert h5bound.from_hdf5(tmp_path / "a.h5", "x").compute().tobytes() == raw
    array = zarr.open_group(tmp_path / "a.zarr", mode="r")["x"]
    assert isinstance(array, zarr.Array)
    assert np.asarray(array[...]).tobytes() == raw
    details = json.loads((tmp_path / "a.zarr" / "h5bound.json").read_text())["details"]["x"]
    exact, stored = details["attributes"]["a"], raw[len(raw) // 3 : -len(raw) // 3]
    shown: Any = dict(array.attrs)["a"]
    found = base64.b64decode(exact["base64"]) if "base64" in exact else np.array(shown, array.dtype).tobytes()
    assert found == stored
