"""One file with each awkward way to store data that other makers of references read wrongly, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

if TYPE_CHECKING:
    from pathlib import Path

    Values = np.ndarray[Any, np.dtype[Any]]

VALUES = (np.arange(900, dtype="<i4").reshape(30, 30) * 7919) % 1000
CHUNKS = {"chunks": (7, 30)}
GZIP = {**CHUNKS, "compression": "gzip"}


def write_awkward(path: Path) -> dict[str, Values]:
    """Write the file, and return what each dataset holds as an array of Zarr has it."""
    (path.parent / f"{path.stem}.raw").write_bytes(VALUES.tobytes())
    with h5py.File(path.with_name(f"{path.stem}-source.h5"), "w") as file:
        file["x"] = VALUES
    with h5py.File(path, "w") as file:
        write_filters(file)
        write_layouts(file, path)
        texts = write_types(file)
        write_links_and_attributes(file, path)
        names = [name for name in list(file) if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        held = [name for name in names if name not in ("null", "hard link")]
        return {name: file[name][...] for name in held} | texts | {"external link": VALUES}


def write_filters(file: h5py.File) -> None:
    """Write chunks in all filters, and chunks for which HDF5 skipped some."""
    import hdf5plugin

    file.create_dataset("chunked", data=VALUES, **CHUNKS)
    file.create_dataset("gzip", data=VALUES, **GZIP)
    file.create_dataset("gzip and shuffle", data=VALUES, shuffle=True, **GZIP)
    file.create_dataset("all three", data=VALUES, shuffle=True, fletcher32=True, **GZIP)
    file.create_dataset("scale-offset", data=VALUES, scaleoffset=0, **CHUNKS)
    file.create_dataset("lzf", data=VALUES, compression="lzf", **CHUNKS)
    plugins = {
        "zstd": hdf5plugin.Zstd(), "blosc": hdf5plugin.Blosc(), "blosc2": hdf5plugin.Blosc2(),
        "bitshuffle": hdf5plugin.Bitshuffle(), "lz4": hdf5plugin.LZ4(), "bzip2": hdf5plugin.BZip2(),
    }  # fmt: skip
    for name, plugin in plugins.items():
        file.create_dataset(name, data=VALUES, **CHUNKS, **plugin)
    file.create_dataset("zfp", data=VALUES.astype("f4"), **CHUNKS, **hdf5plugin.Zfp(reversible=True))
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((7, 30))
    plist.set_fletcher32()
    plist.set_shuffle()
    plist.set_deflate(4)
    create(file, "fletcher32 first", plist, VALUES)
    for mask in (1, 2, 3):
        dataset = file.create_dataset(f"all masks {mask}", VALUES.shape, "<i4", shuffle=True, **GZIP)
        write_masked(dataset, mask, range(0, 30, 7))
    dataset = file.create_dataset("one mask", data=VALUES, shuffle=True, **GZIP)
    write_masked(dataset, 3, [7])


def write_masked(dataset: h5py.Dataset, mask: int, starts: Any) -> None:
    """Write chunks of VALUES, 7 rows each, that did not go through the filters in a mask."""
    import zlib

    for start in starts:
        rows = np.zeros((7, 30), "<i4")
        rows[: 30 - start] = VALUES[start : start + 7]
        data = rows.tobytes() if mask & 1 else rows.reshape(-1).view("u1").reshape(-1, 4).T.tobytes()
        dataset.id.write_direct_chunk((start, 0), data if mask & 2 else zlib.compress(data), filter_mask=mask)


def create(file: h5py.File, name: str, plist: h5p.PropDCID, values: Values) -> None:
    """Write a dataset with a list of properties."""
    dataset = h5d.create(file.id, name.encode(), h5t.py_create(values.dtype), h5s.create_simple(values.shape), plist)
    dataset.write(h5s.ALL, h5s.ALL, np.ascontiguousarray(values))


def write_layouts(file: h5py.File, path: Path) -> None:
    """Write data that is in no chunks, in other files, or nowhere."""
    file.create_dataset("contiguous", data=VALUES)
    compact = h5p.create(h5p.DATASET_CREATE)
    compact.set_layout(h5d.COMPACT)
    create(file, "compact", compact, VALUES[:3])
    external = [(str(path.parent / f"{path.stem}.raw"), 0, VALUES.nbytes)]
    file.create_dataset("external storage", VALUES.shape, "<i4", external=external)
    layout = h5py.VirtualLayout(VALUES.shape, "<i4")
    layout[:] = h5py.VirtualSource(f"{path.stem}-source.h5", "x", VALUES.shape)
    file.create_virtual_dataset("virtual", layout)
    file.create_dataset("scalar", data=2.5)
    file["null"] = h5py.Empty("f8")
    file.create_dataset("zero size", (0, 4), "i2")
    file.create_dataset("never written", (30,), "f4", chunks=(7,), fillvalue=3)
    file.create_dataset("partly written", (30,), "f4", chunks=(7,), fillvalue=3)[7:14] = 5
    file.create_dataset("contiguous, never written", (30,), "f4", fillvalue=4)


def write_types(file: h5py.File) -> dict[str, Values]:
    """Write data of many types; return the texts among them."""
    data = {
        "big-endian": VALUES.astype(">i4"),
        "bool": VALUES % 2 == 0,
        "complex": VALUES[0] + 1j,
        "float16": VALUES[0].astype("f2"),
        "compound": np.array([(1, 2.5), (3, -1)], [("a", "<i4"), ("b", ">f8")]),
        "fixed text": np.array([b"a", b"bcd"]),
    }
    for name, values in data.items():
        file.create_dataset(name, data=values)
        file.create_dataset(f"{name} in chunks", data=values, chunks=True, compression="gzip", shuffle=True)
    file.create_dataset("enum", data=VALUES[0] % 2, dtype=h5py.enum_dtype({"A": 0, "B": 1}, "i4"))
    times = np.array(["2020-01-01", "NaT"], "M8[s]")
    file.create_dataset("datetime", data=times.astype(h5py.opaque_dtype(times.dtype)))
    file.create_dataset("array type", (4,), np.dtype(("i2", (3,))))[...] = VALUES[0, :12].reshape(4, 3)
    file.create_dataset("array type in chunks", (4,), np.dtype(("i2", (3,))), chunks=(2,))[...] = VALUES[
        0, :12
    ].reshape(4, 3)
    file.create_dataset("text", data=["a", "bé", ""])
    file.create_dataset("references", data=[file["gzip"].ref, file["enum"].ref], dtype=h5py.ref_dtype)
    return {"text": np.array(["a", "bé", ""], object), "references": np.array(["/gzip", "/enum"], object)}


def write_links_and_attributes(file: h5py.File, path: Path) -> None:
    """Write links of each kind, scales, and attributes that JSON does not know."""
    file["soft"] = h5py.SoftLink("/gzip")
    file["hard link"] = file["gzip"]
    file["external link"] = h5py.ExternalLink(f"{path.stem}-source.h5", "x")
    scales = [file.create_dataset(f"scale{number}", data=np.arange(30.0) + number) for number in range(2)]
    for number, scale in enumerate(scales):
        scale.make_scale(f"scale{number}")
        file["gzip"].dims[0].attach_scale(scale)
    file["gzip"].attrs["nan"] = np.nan
    file["gzip"].attrs["reference"] = file["enum"].ref
    file["gzip"].attrs["complex"] = 1 + 2j
    file["gzip"].attrs["empty"] = h5py.Empty("f4")
    file["gzip"].attrs.create("latin", b"\xb0C", dtype=h5py.string_dtype("utf-8"))
