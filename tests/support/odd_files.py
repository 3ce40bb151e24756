"""Small HDF5 files, each odd in one way, and a record of the files that a piece of code opens."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import h5py
import numpy as np
from h5py import h5d, h5l, h5p, h5s, h5t

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def write_hard_links(path: Path) -> None:
    """Write one dataset under three names, and groups that contain themselves."""
    with h5py.File(path, "w") as file:
        file["b/data"] = np.arange(6)
        file["a"] = file["b/data"]
        file["b/c/again"] = file["b/data"]
        file["b/c/up"] = file["b"]
        file["b/root"] = file["/"]


def write_soft_links(path: Path) -> None:
    """Write soft links: absolute, relative, through a link, dangling, and in circles."""
    with h5py.File(path, "w") as file:
        file["entry/data"] = np.arange(6)
        file["absolute"] = h5py.SoftLink("/entry/data")
        file["relative"] = h5py.SoftLink("entry/data")
        file["group"] = h5py.SoftLink("entry")
        file["entry/near"] = h5py.SoftLink("data")
        file["chain"] = h5py.SoftLink("/group/near")
        file["dangling"] = h5py.SoftLink("/entry/none")
        file["circle"] = h5py.SoftLink("/circle")
        file["spiral"] = h5py.SoftLink("/spiral/x")


def write_external_links(path: Path) -> None:
    """Write external links to ``other.h5`` in the same folder, one of them behind a soft link."""
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["secret/data"] = np.arange(6)
    with h5py.File(path, "w") as file:
        file["there"] = h5py.ExternalLink("other.h5", "/secret")
        file["behind"] = h5py.SoftLink("/there/data")


def write_user_link(path: Path) -> None:
    """Write a user-defined link of class 187, which HDF5 cannot follow."""
    with h5py.File(path, "w") as file:
        file["data"] = 1
        file["odd_link"] = h5py.ExternalLink("other.h5", "/")
    raw = bytearray(path.read_bytes())
    # HDF5 File Format Specification, Link message: class, length of the name, the name.
    place = raw.index(b"odd_link") - 2
    assert raw[place] == h5l.TYPE_EXTERNAL
    raw[place] = 187
    path.write_bytes(raw)


def write_odd_names(path: Path) -> None:
    """Write names that file systems and Zarr have trouble with; the last one is not UTF-8."""
    with h5py.File(path, "w") as file:
        for name in (
            "..",
            "...",
            "a\\b",
            "zarr.json",
            ".zgroup",
            "__x",
            "line\nbreak",
            "A",
            "a",
            "é",
            "x" * 300,
        ):
            file[name] = np.arange(3)
        file["é"].parent.create_group("sub")["zarr.json"] = 1
        file.id.links.create_soft(b"caf\xe9", b"/A")


def write_unreachable_links(path: Path) -> None:
    """Write links that no path can reach, as only a forged file has: ``.``, ``a/b``, and a second ``c1``."""
    with h5py.File(path, "w") as file:
        for name in ("#", "a#b", "c1", "c2"):
            file.create_group(name)
    raw = path.read_bytes().replace(b"\0#\0", b"\0.\0").replace(b"a#b", b"a/b").replace(b"c2", b"c1")
    path.write_bytes(raw)


def write_unreadable_types(path: Path) -> None:
    """Write datasets whose types h5py does not have: a time, a 128-bit float, and a member name in Latin-1."""
    with h5py.File(path, "w") as file:
        space = h5s.create_simple((3,))
        h5d.create(file.id, b"time", h5t.UNIX_D32LE, space)
        wide = h5t.IEEE_F64LE.copy()
        wide.set_size(16)
        wide.set_precision(128)
        wide.set_fields(127, 104, 23, 0, 104)
        wide.set_ebias(2**22 - 1)
        h5d.create(file.id, b"wide", wide, space)
        named = h5t.create(h5t.COMPOUND, 4)
        named.insert(b"\xff", 0, h5t.STD_I32LE)
        h5d.create(file.id, b"name", named, space)
        file["good"] = np.arange(3)


def write_damaged_object(path: Path) -> None:
    """Write a file in which one object's header is overwritten."""
    with h5py.File(path, "w") as file:
        file["bad"] = np.arange(3)
        file["good"] = np.arange(3)
        address = h5py.h5o.get_info(file["bad"].id).addr
    raw = bytearray(path.read_bytes())
    raw[address] = 77
    path.write_bytes(raw)


def write_committed_type(path: Path) -> None:
    """Write a committed type, and a dataset of that type."""
    with h5py.File(path, "w") as file:
        file["mytype"] = np.dtype([("x", "f4"), ("y", "i2")])
        file.create_dataset("points", (4,), dtype=file["mytype"])


def write_layouts(path: Path) -> None:
    """Write every layout that stays within the file, and the odd shapes."""
    with h5py.File(path, "w") as file:
        file["contiguous"] = np.arange(10, dtype="i4")
        file.create_dataset("never_written", (10,), "i4")
        file.create_dataset("chunked", data=np.arange(10, dtype="i4"), chunks=(4,), compression="gzip", shuffle=True)
        file.create_dataset("sparse", (100,), "i4", chunks=(10,))[35] = 1
        file.create_dataset("bigger_chunk", (3,), "i4", chunks=(8,), maxshape=(None,))[:] = 1
        file.create_dataset("zero_size", (0, 4), "i4", chunks=(2, 4), maxshape=(None, 4))
        file["scalar"] = 1.5
        file["null"] = h5py.Empty("f4")
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_layout(h5d.COMPACT)
        compact = h5d.create(file.id, b"compact", h5t.NATIVE_INT32, h5s.create_simple((5,)), plist)
        compact.write(h5s.ALL, h5s.ALL, np.arange(5, dtype="i4"))


def write_external_storage(path: Path) -> None:
    """Write a dataset whose values are in ``values.raw`` in the same folder."""
    np.arange(10, dtype="i4").tofile(path.with_name("values.raw"))
    with h5py.File(path, "w") as file:
        file.create_dataset("outside", (10,), "i4", external=[(path.with_name("values.raw"), 0, 40)])


def write_virtual(path: Path) -> None:
    """Write virtual datasets: of this file, of another, growing with it, and through links of this file."""
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as file:
        file.create_dataset("data", data=np.arange(20).reshape(4, 5), maxshape=(None, 5), chunks=(2, 5))
    with h5py.File(path, "w", libver="latest") as file:
        file["data"] = np.arange(20).reshape(4, 5)
        file["there"] = h5py.ExternalLink(str(other), "/")
        file["soft"] = h5py.SoftLink("/there/data")
        _write_mapping(file, "inside", ".", "data")
        _write_mapping(file, "fixed", str(other), "data")
        _write_mapping(file, "growing", str(other), "data", grows=True)
        _write_mapping(file, "linked", ".", "/there/data")
        _write_mapping(file, "nested", ".", "fixed")
        _write_mapping(file, "soft_linked", ".", "soft")
        _write_mapping(file, "missing", ".", "none")
        _write_pattern(file, "pattern", "data%b")


def _write_mapping(file: h5py.File, name: str, source: str, data: str, *, grows: bool = False) -> None:
    rows = h5s.UNLIMITED if grows else 4
    layout = h5py.VirtualLayout((2 if grows else 4, 5), "i8", maxshape=(None if grows else 4, 5))
    mapped = h5py.VirtualSource(source, data, shape=(4, 5), maxshape=(None if grows else 4, 5))
    layout[0:rows, :] = mapped[0:rows, :]
    file.create_virtual_dataset(name, layout)


def _write_pattern(file: h5py.File, name: str, pattern: str) -> None:
    plist = h5p.create(h5p.DATASET_CREATE)
    space = h5s.create_simple((4, 5), (h5s.UNLIMITED, 5))
    space.select_hyperslab((0, 0), (h5s.UNLIMITED, 1), (4, 5), (4, 5))
    plist.set_virtual(space, b".", pattern.encode(), h5s.create_simple((4, 5)))
    h5d.create(file.id, name.encode(), h5t.NATIVE_INT64, space, plist)


def write_edge_unfiltered(path: Path) -> None:
    """Write partial edge chunks without the filters that the other chunks have."""
    with h5py.File(path, "w", libver="latest") as file:
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_shuffle()
        plist.set_deflate(4)
        set_options = ctypes.CDLL(h5p.__file__).H5Pset_chunk_opts
        assert set_options(ctypes.c_int64(plist.id), ctypes.c_uint(2)) >= 0
        for name, extent in ((b"cut", 10), (b"whole", 12)):
            dataset = h5d.create(file.id, name, h5t.NATIVE_INT32, h5s.create_simple((extent,)), plist)
            dataset.write(h5s.ALL, h5s.ALL, np.arange(extent, dtype="i4"))
        file.create_dataset("usual", data=np.arange(10, dtype="i4"), chunks=(4,), compression="gzip")


def write_huge_grid(path: Path) -> None:
    """Write 2^30 declared chunks of 1 MiB, one of them stored: 1 PiB in a few thousand bytes."""
    with h5py.File(path, "w") as file:
        huge = file.create_dataset("huge", (2**30, 2**17), "f8", chunks=(1, 2**17), compression="gzip")
        huge[5] = 1.0


def write_huge_array_index(path: Path) -> None:
    """Write 2^30 declared chunks under an index that has a place for each, one of them stored."""
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("huge", (2**30,), "i1", chunks=(1,), maxshape=(None,))[2**30 - 1] = 1


def write_deep(path: Path, depth: int = 100) -> None:
    """Write groups in groups."""
    with h5py.File(path, "w") as file:
        group = file
        for _ in range(depth):
            group = group.create_group("g")


def write_many(path: Path, number: int = 2000) -> None:
    """Write many empty groups."""
    with h5py.File(path, "w") as file:
        for i in range(number):
            file.create_group(f"g{i}")


ODD_FILES: dict[str, Callable[[Path], None]] = {
    name.removeprefix("write_"): make
    for name, make in list(globals().items())
    if name.startswith("write_") and callable(make)
}
"""All functions of this module that write a file, by name."""


@contextmanager
def record_opens(folder: Path) -> Iterator[set[str]]:
    """Yield the names of the files in a folder that are opened in the with block; the set is complete at its end.

    The kernel reports them (inotify), so that files that C code opens are seen as well. Linux only.
    """
    assert sys.platform == "linux"
    kernel = ctypes.CDLL(None, use_errno=True)
    watch = kernel.inotify_init1(os.O_NONBLOCK)
    opened: set[str] = set()
    try:
        assert watch >= 0
        assert kernel.inotify_add_watch(watch, os.fsencode(folder), 0x20) >= 0  # IN_OPEN
        yield opened
        while select.select([watch], [], [], 0.05)[0]:
            raw, start = os.read(watch, 1 << 16), 0
            while start < len(raw):
                length = struct.unpack_from("iIII", raw, start)[3]
                opened.add(os.fsdecode(raw[start + 16 : start + 16 + length].rstrip(b"\0")))
                start += 16 + length
    finally:
        os.close(watch)
