"""HDF5 files of one dataset each, every one awkward in its own way, with what h5py reads of it."""

from __future__ import annotations

import ctypes
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin
import numpy as np
from h5py import h5d, h5p, h5s, h5t

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Values = np.ndarray[Any, np.dtype[Any]]

VALUES = (np.arange(900, dtype="<i4").reshape(30, 30) * 7919) % 1000
CHUNKS: dict[str, Any] = {"chunks": (7, 30)}
GZIP: dict[str, Any] = {**CHUNKS, "compression": "gzip"}
REFUSED = "an error"
"""What a case expects whose values cannot be had."""


@dataclass(frozen=True, slots=True)
class Case:
    """One file, or one series of files, and what a reader should find."""

    write: Callable[[Path], Mapping[str, Any]]
    """Writes it to a path (a series: into a folder), and returns the values by name: a name like ``x@units`` is an
    attribute, None a null dataspace, a list sequences, `REFUSED` values that cannot be had."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of h5bound, for what it does only when it is asked to."""
    after: Callable[[Path], None] | None = None
    """What happens to the file between opening and reading."""
    series: bool = False


def save(data: Any = VALUES, **options: Any) -> Case:
    """Return the case of one dataset as `create_dataset` makes it."""

    def write(path: Path) -> dict[str, Any]:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=data, **options)
            return {"x": file["x"][...]}

    return Case(write)


def build(make: Callable[[h5py.File], Mapping[str, Any] | None], **fields: Any) -> Case:
    """Return the case of a file that a function fills; what it returns is expected, else what h5py reads of ``x``."""

    def write(path: Path) -> Mapping[str, Any]:
        with h5py.File(path, "w") as file:
            return make(file) or {"x": file["x"][...]}

    return Case(write, **fields)


def create(file: h5py.File, kind: h5t.TypeID, values: Values, plist: h5p.PropDCID | None = None) -> None:
    """Write ``x`` with HDF5's own type and properties."""
    dataset = h5d.create(file.id, b"x", kind, h5s.create_simple(values.shape), plist)
    dataset.write(h5s.ALL, h5s.ALL, np.ascontiguousarray(values), kind if values.dtype.kind == "V" else None)


def write_compact(file: h5py.File) -> None:
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_layout(h5d.COMPACT)
    create(file, h5t.STD_I32LE, VALUES[:3], plist)


def write_external(file: h5py.File) -> None:
    raw = f"{file.filename}.raw"
    VALUES.tofile(raw)
    file.create_dataset("x", VALUES.shape, "<i4", external=[(raw, 0, VALUES.nbytes)])


def write_virtual(file: h5py.File) -> None:
    with h5py.File(f"{file.filename}.source", "w") as source:
        source["x"] = VALUES
    layout = h5py.VirtualLayout(VALUES.shape, "<i4")
    layout[:] = h5py.VirtualSource(f"{file.filename}.source", "x", VALUES.shape)
    file.create_virtual_dataset("x", layout)


def write_masked(mask: int, starts: range) -> Callable[[h5py.File], None]:
    """Return what writes shuffled and deflated chunks, some of which skip the filters of a mask."""

    def make(file: h5py.File) -> None:
        dataset = file.create_dataset("x", data=VALUES, shuffle=True, **GZIP)
        for start in starts:
            rows = np.zeros((7, 30), "<i4")
            rows[: 30 - start] = VALUES[start : start + 7]
            data = rows.tobytes() if mask & 1 else rows.reshape(-1).view("u1").reshape(-1, 4).T.tobytes()
            stored = data if mask & 2 else zlib.compress(data)
            dataset.id.write_direct_chunk((start, 0), stored, filter_mask=mask)

    return make


def write_old_checksums(file: h5py.File) -> None:
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((7, 30))
    plist.set_fletcher32()
    plist.set_shuffle()
    plist.set_deflate(4)
    create(file, h5t.STD_I32LE, VALUES, plist)


def write_edges(file: h5py.File) -> None:
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_shuffle()
    plist.set_deflate(4)
    # h5py lacks H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS.
    assert ctypes.CDLL(h5p.__file__).H5Pset_chunk_opts(ctypes.c_int64(plist.id), ctypes.c_uint(2)) >= 0
    create(file, h5t.STD_I32LE, VALUES[0, :10], plist)


def write_szip(file: h5py.File) -> None:
    file.create_dataset("x", data=VALUES, compression="szip", compression_opts=("nn", 8), **CHUNKS)


def write_unwritten(file: h5py.File) -> None:
    file.create_dataset("x", (30,), "f4", chunks=(7,), fillvalue=3, compression="gzip")[7:14] = 5


def write_nothing(file: h5py.File) -> None:
    file.create_dataset("x", (30,), "f4", fillvalue=4)


def write_null(file: h5py.File) -> dict[str, Any]:
    file["x"] = h5py.Empty("f4")
    return {"x": None}


def write_user_block(path: Path) -> dict[str, Any]:
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("x", data=VALUES, **GZIP)
    return {"x": VALUES}


def write_padded(file: h5py.File) -> dict[str, Any]:
    kind = h5t.C_S1.copy()
    kind.set_size(5)
    kind.set_strpad(h5t.STR_SPACEPAD)
    create(file, kind, np.array([b"ab   ", b"cde  "], "S5"))
    return {"x": np.array(["ab", "cde"], object)}


def write_text(values: list[Any]) -> Callable[[h5py.File], dict[str, Any]]:
    def make(file: h5py.File) -> dict[str, Any]:
        file.create_dataset("x", data=np.array(values, object), dtype=h5py.string_dtype())
        return {"x": np.array(values, object)}

    return make


def write_sequences(file: h5py.File) -> dict[str, Any]:
    dataset = file.create_dataset("x", (3,), h5py.vlen_dtype("<i4"))
    dataset[0], dataset[2] = [1, 2], [3]
    return {"x": [[1, 2], [], [3]]}


def write_references(file: h5py.File) -> dict[str, Any]:
    file["data"] = VALUES[0, :2]
    file.create_dataset("x", data=[file["data"].ref, h5py.Reference()], dtype=h5py.ref_dtype)
    return {"x": np.array(["/data", ""], object)}


def write_regions(file: h5py.File) -> dict[str, Any]:
    file["data"] = VALUES
    file.create_dataset("x", data=[file["data"].regionref[2:5, 1:3]] * 30, dtype=h5py.regionref_dtype)
    return {"x": np.array(['{"path": "/data", "start": [2, 1], "count": [3, 2]}'] * 30, object)}


def write_tagged(file: h5py.File) -> dict[str, Any]:
    times = np.array(["2020-01-01", "NaT"], "M8[s]")
    file["x"] = times.astype(h5py.opaque_dtype(times.dtype))
    return {"x": times}


def write_nested(file: h5py.File) -> dict[str, Any]:
    file["x"] = values = np.array([((1, 2.5),), ((3, -1),)], [("in", [("a", "<i4"), ("b", "<f8")])])
    return {"x/in/a": values["in"]["a"], "x/in/b": values["in"]["b"]}


def write_texts_in_structs(file: h5py.File) -> dict[str, Any]:
    kind = np.dtype([("a", "<i4"), ("s", h5py.string_dtype())])
    file["x"] = np.array([(1, "é"), (2, "long text")], kind)
    return {"x/a": np.array([1, 2], "<i4"), "x/s": np.array(["é", "long text"], object)}


def write_arrays_in_structs(file: h5py.File) -> dict[str, Any]:
    file["x"] = values = np.array([(1, [1, 2]), (3, [3, 4])], [("a", "<i4"), ("b", "<f8", (2,))])
    return {"x/a": values["a"], "x/b": values["b"]}


def write_long(file: h5py.File) -> dict[str, Any]:
    file["x"] = np.array([1, 2], np.longdouble) / 3
    return {"x": np.array([1, 2], np.longdouble) / 3}


NAN = np.array([0x7FC00001, 0xFFC12345, 0x3F800000], "<u4").view("<f4")
ENUM = h5py.enum_dtype({"OFF": 0, "ON": 1}, "i1")
EXTERNAL = {"allow_external": True}
PAIR = np.array([(1, 2.5), (3, -1)], [("a", "<i4"), ("b", "<f8")])
PAIRS = np.array([[1, 2, 3], [4, 5, 6]], "i2")


def write_pairs(file: h5py.File) -> None:
    file.create_dataset("x", (2,), np.dtype(("i2", (3,))))[...] = PAIRS


DATA_CASES: Mapping[str, Mapping[str, Case]] = {
    "Layouts": {
        "contiguous": save(),
        "chunks, gzip, shuffle, fletcher32": save(**GZIP, shuffle=True, fletcher32=True),
        "compact": build(write_compact),
        "external storage": build(write_external, options=EXTERNAL),
        "virtual dataset": build(write_virtual, options=EXTERNAL),
        "chunks never written, fill value 3": build(write_unwritten),
        "contiguous, never written, fill value 4": build(write_nothing),
        "a chunk larger than the dataset": save(VALUES[:3], chunks=(7, 30), maxshape=(None, 30)),
        "file with a user block": Case(write_user_block),
        "20 dimensions": save(np.arange(1024).reshape((2, 1) * 10)),
        "scalar": save(2.5),
        "null dataspace": build(write_null),
        "shape (0, 4)": save(np.zeros((0, 4), "i2")),
    },
    "Filters": {
        "filters skipped for one chunk": build(write_masked(3, range(7, 8))),
        "shuffle skipped for all chunks": build(write_masked(1, range(0, 30, 7))),
        "deflate skipped for all chunks": build(write_masked(2, range(0, 30, 7))),
        "partial edge chunks unfiltered": build(write_edges),
        "fletcher32 before shuffle": build(write_old_checksums),
        "LZF": save(compression="lzf", **CHUNKS),
        "szip": build(write_szip),
        "scale-offset": save(scaleoffset=0, **CHUNKS),
        "zstd": save(**CHUNKS, **hdf5plugin.Zstd()),
        "blosc": save(**CHUNKS, **hdf5plugin.Blosc()),
        "blosc2": save(**CHUNKS, **hdf5plugin.Blosc2()),
        "bitshuffle": save(**CHUNKS, **hdf5plugin.Bitshuffle()),
        "lz4": save(**CHUNKS, **hdf5plugin.LZ4()),
        "zfp": save(VALUES.astype("f4"), **CHUNKS, **hdf5plugin.Zfp(reversible=True)),
    },
    "Types": {
        "big-endian": save(VALUES.astype(">i4"), **GZIP, shuffle=True),
        "NaN with payloads": save(NAN),
        "bool": save(VALUES % 2 == 0, **GZIP),
        "enum": save(VALUES % 2, dtype=ENUM, chunks=(7, 30)),
        "complex": save(VALUES + 1j, **GZIP),
        "float16": save(VALUES.astype("f2"), **GZIP),
        "long double": build(write_long),
        "opaque": save(np.array([b"ab", b"cd"], "V2")),
        "tagged datetime": build(write_tagged),
        "compound": save(PAIR, chunks=(2,), compression="gzip"),
        "compound of both byte orders": save(PAIR.astype([("a", "<i4"), ("b", ">f8")])),
        "compound in a compound": build(write_nested),
        "compound with text": build(write_texts_in_structs),
        "compound with arrays": build(write_arrays_in_structs),
        "array type": build(write_pairs),
        "fixed text": save(np.array([b"a", b"bcd"])),
        "fixed text, padded with spaces": build(write_padded),
        "text": build(write_text(["a", "bé", ""])),
        "text that is not UTF-8": build(write_text([b"caf\xe9", b"a"])),
        "sequences": build(write_sequences),
        "object references": build(write_references),
        "region references": build(write_regions),
    },
}
"""What is awkward in a dataset: how it is laid out, encoded, and of which type."""
