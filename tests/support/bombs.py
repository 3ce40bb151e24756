"""Tiny HDF5 files that declare, or decode to, far more than they contain."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from tests.support import odd_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_petabyte(path: Path) -> None:
    """2^50 bytes in 2^30 chunks, one of them stored."""
    odd_files.write_huge_grid(path)


def write_places(path: Path) -> None:
    """An index with a place for each of 2^30 chunks."""
    odd_files.write_huge_array_index(path)


def write_endless(path: Path) -> None:
    """2^63 - 1 elements along one axis, and 2^62 chunks."""
    with h5py.File(path, "w") as file:
        file.create_dataset("contiguous", (2**63 - 1,), "i1")
        file.create_dataset("chunked", (2**63 - 1,), "i1", chunks=(1,))[5] = 1
        file.create_dataset("square", (2**31, 2**31), "i1", chunks=(1, 1))[2**30, 5] = 7
        file.create_dataset("blocks", (2**31, 2**31), "i1", chunks=(2**12, 2**12), compression="gzip")[7, 7] = 7


def write_axes(path: Path) -> None:
    """32 axes, one element along each, and two."""
    with h5py.File(path, "w") as file:
        file.create_dataset("one", (1,) * 32, "i4", chunks=(1,) * 32)[...] = 1
        file.create_dataset("two", (2,) * 32, "i1", chunks=(1,) * 32)[(0,) * 32] = 1


def write_ladder(path: Path) -> None:
    """2^50 paths to the last of 50 groups."""
    with h5py.File(path, "w") as file:
        above = file.create_group("g")
        for _ in range(50):
            below = above.create_group("a")
            above["b"] = below
            above = below
        above["x"] = 1


def write_web(path: Path) -> None:
    """100 groups, each with a link to each, and so on for ever."""
    with h5py.File(path, "w") as file:
        groups = [file.create_group(str(i)) for i in range(100)]
        for group in groups:
            for i, other in enumerate(groups):
                group[f"to{i}"] = other


def write_deep(path: Path) -> None:
    """Groups in groups, 1,000 deep."""
    odd_files.write_deep(path, 1000)


def write_soft(path: Path) -> None:
    """Soft links in circles, and in a ladder of 2^60 steps."""
    with h5py.File(path, "w") as file:
        file["x"] = 1
        file["circle"] = h5py.SoftLink("/circle/x")
        file["l0"] = h5py.SoftLink("/x")
        for i in range(60):
            file[f"l{i + 1}"] = h5py.SoftLink(f"/l{i}/../l{i}")
        file["long"] = h5py.SoftLink("/" + "x/" * 30_000)


def write_inflated(path: Path) -> None:
    """Chunks that inflate to 2^28 bytes where some 2^16 are declared, and 20,000 bytes for a chunk of 2^31."""
    with h5py.File(path, "w") as file:
        file.create_dataset("direct", (1 << 16,), "i1", chunks=(1 << 16,), compression="gzip")
        kind = np.dtype([("a", h5py.string_dtype()), ("b", "i4")])
        file.create_dataset("text", (1 << 12,), h5py.string_dtype(), chunks=(1 << 12,), compression="gzip")
        file.create_dataset("record", (1 << 12,), kind, chunks=(1 << 12,), compression="gzip")
        padded = h5t.C_S1.copy()
        padded.set_size(16)
        padded.set_strpad(h5t.STR_SPACEPAD)
        make_filtered(file, "padded", padded, 1 << 12, [1])
        make_filtered(file, "foreign", make_opaque(16), 1 << 12, [1])
        for item in file.values():
            item.id.write_direct_chunk((0,), inflating(1 << 28))
        file.create_dataset("huge", (1 << 31,), "i1", chunks=(1 << 31,), compression="gzip")
        file["huge"].id.write_direct_chunk((0,), zlib.compress(bytes(20_000)))


def make_opaque(size: int) -> h5t.TypeID:
    """Return a type that h5py reads only as bytes."""
    kind = h5t.create(h5t.OPAQUE, size)
    kind.set_tag(b"foreign")
    return kind


def write_inflated_twice(path: Path) -> None:
    """A chunk that inflates to one that inflates to 2^28 bytes where 2^16 are declared, and one that does at once."""
    with h5py.File(path, "w") as file:
        for name, stored in (("x", zlib.compress(inflating(1 << 28), 9)), ("y", inflating(1 << 29))):
            make_filtered(file, name, h5t.STD_I8LE, 1 << 16, [1, 1])
            file[name].id.write_direct_chunk((0,), stored)


def inflating(nbytes: int) -> bytes:
    """Return a zlib stream of `nbytes` zeros (whole MiB), a thousand times shorter."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = (nbytes % 65521) << 16 | 1  # RFC 1950, Adler-32 of zeros
    return b"\x78\xda" + piece * (nbytes >> 20) + b"\x03\x00" + checksum.to_bytes(4, "big")


def make_filtered(file: h5py.File, name: str, kind: h5t.TypeID, count: int, filters: list[int]) -> None:
    """Make a dataset of one chunk with a filter pipeline."""
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((count,))
    for number in filters:
        plist.set_filter(number, 0, (6,))
    h5d.create(file.id, name.encode(), kind, h5s.create_simple((count,)), plist)


def write_wide(path: Path) -> None:
    """Elements of 2^24 bytes: a string, opaque bytes, an array type, a compound; and of more than numpy has."""
    with h5py.File(path, "w") as file:
        for name, kind in (
            ("string", np.dtype("S16777216")),
            ("opaque", np.dtype("V16777216")),
            ("array", np.dtype(("i1", (1 << 12, 1 << 12)))),
            ("compound", np.dtype([("a", "S8388608"), ("b", "S8388608")])),
        ):
            file.create_dataset(name, (1000,), kind, chunks=(1,))
        for name, dims in (("array of arrays", (2**31 - 1, 2**20)), ("more", (2**31 - 1, 2**31 - 1))):
            try:
                kind = h5t.array_create(h5t.STD_I8LE, dims)
                h5d.create(file.id, name.encode(), kind, h5s.create_simple((4,)))
            except (ValueError, OverflowError):
                continue


def write_members(path: Path) -> None:
    """Many members of a compound and an enumeration, and types in types in types."""
    with h5py.File(path, "w", libver="latest") as file:
        file["compound"] = np.zeros(3, [(f"m{i}", "i1") for i in range(400)])
        file.create_dataset("enum", (3,), h5py.enum_dtype({f"e{i}": i for i in range(4000)}, "i4"))
        for name, depth, wrap in (
            ("sequences", 800, h5t.vlen_create),
            ("arrays", 800, lambda kind: h5t.array_create(kind, (1,))),
            ("compounds", 800, wrap_compound),
        ):
            make_nested(file, name, depth, wrap)
        file.attrs["compound"] = np.zeros(1, [(f"m{i}", "i1") for i in range(400)])


def wrap_compound(kind: h5t.TypeID) -> h5t.TypeID:
    """Return a compound with one member."""
    made = h5t.create(h5t.COMPOUND, kind.get_size())
    made.insert(b"m", 0, kind)
    return made


def make_nested(file: h5py.File, name: str, depth: int, wrap: Callable[[Any], Any]) -> None:
    """Make a dataset and an attribute of a deeply nested type."""
    kind = h5t.STD_I8LE
    for _ in range(depth):
        kind = wrap(kind)
    h5d.create(file.id, name.encode(), kind, h5s.create_simple((2,)))
    h5py.h5a.create(file[name].id, b"same", kind, h5s.create_simple((1,)))


def write_shared_text(path: Path) -> None:
    """2^18 strings that are all one: 2^20 bytes in the file, 2^38 when read."""
    with h5py.File(path, "w") as file:
        one = file.create_dataset("one", (1,), h5py.string_dtype(), chunks=(1,))
        one[0] = "x" * (1 << 20)
        reference = one.id.read_direct_chunk((0,))[1]
        many = file.create_dataset("many", (1 << 18,), h5py.string_dtype(), chunks=(1 << 18,), compression="gzip")
        many.id.write_direct_chunk((0,), zlib.compress(reference * (1 << 18), 9))
        kind = h5py.vlen_dtype("i1")
        sequences = file.create_dataset("sequences", (1 << 18,), kind, chunks=(1 << 18,), compression="gzip")
        sequences.id.write_direct_chunk((0,), zlib.compress(reference * (1 << 18), 9))


def write_shared_sequence(path: Path) -> None:
    """A sequence of 2^15 sequences that are all one: 2^19 bytes in the file, 2^34 when read; in a compound, too."""
    sequence = h5py.vlen_dtype("i1")
    with h5py.File(path, "w") as file:
        one = file.create_dataset("one", (1,), sequence, chunks=(1,))
        one[0] = np.zeros(1 << 19, "i1")
        reference = one.id.read_direct_chunk((0,))[1]
        inner = file.create_dataset("inner", (1,), h5py.vlen_dtype("V16"), chunks=(1,))
        inner[0] = np.frombuffer(reference * (1 << 15), "V16")
        outer = inner.id.read_direct_chunk((0,))[1]
        for name, kind in (
            ("nested", sequence),
            ("texts", h5py.string_dtype()),
            ("record", np.dtype([("a", sequence)])),
        ):
            made = file.create_dataset(name, (1,), h5py.vlen_dtype(kind), chunks=(1,))
            made.id.write_direct_chunk((0,), outer)


def write_widened(path: Path) -> None:
    """2^18 compounds with a text each, of which one is long: in Zarr each would be."""
    kind = np.dtype([("text", h5py.string_dtype()), ("n", "i4")])
    with h5py.File(path, "w") as file:
        made = file.create_dataset("x", (1 << 18,), kind, chunks=(1 << 18,), compression="gzip")
        made[7] = ("x" * 16_000, 7)


def write_long_text(path: Path) -> None:
    """Strings and sequences that say they have 2^32 - 1 elements: in chunks, one piece, a compound, an array."""
    text, sequence = h5py.string_dtype(), h5py.vlen_dtype("f8")
    marker = b"\x03\0\0\0"  # the length of each value, before its address
    with h5py.File(path, "w") as file:
        for name, kind, value, chunks in (
            ("text", text, "abc", (1,)),
            ("sequence", sequence, np.arange(3.0), (1,)),
            ("piece", text, "abc", None),
            ("record", np.dtype([("n", "i4"), ("s", text)]), (7, "abc"), (1,)),
            ("array", np.dtype((text, (2,))), ["abc", "abc"], (1,)),
        ):
            file.create_dataset(name, (1,), kind, chunks=chunks)[0] = value
        places = {name: item.id.get_chunk_info(0) if item.chunks else item.id for name, item in file.items()}
        offsets = [getattr(at, "byte_offset", None) or at.get_offset() for at in places.values()]
    raw = bytearray(path.read_bytes())
    for offset in offsets:
        at = raw.index(marker, offset)
        raw[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)


def write_attributes(path: Path) -> None:
    """An attribute that says it has 2^40 elements."""
    with h5py.File(path, "w") as file:
        file["x"] = 1
        file["x"].attrs["huge"] = np.arange(3)
        shape = file["x"].attrs.get_id("huge").get_space().get_simple_extent_dims()
    raw = bytearray(path.read_bytes())
    at = raw.index(b"huge\0")
    place = raw.index(shape[0].to_bytes(8, "little"), at)
    raw[place : place + 8] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(raw)


def write_scales(path: Path) -> None:
    """Dimension scales of themselves and of each other, and references in circles."""
    with h5py.File(path, "w") as file:
        for name in "ab":
            file[name] = np.arange(3)
            file[name].make_scale(name)
        kind = h5py.vlen_dtype(h5py.ref_dtype)
        for name, other in ("ab", "ba"):
            lists = np.empty(1, object)
            lists[0] = np.array([file[other].ref, file[name].ref] * 500, h5py.ref_dtype)
            file[name].attrs.create("DIMENSION_LIST", lists, dtype=kind)
            file[name].attrs["self"] = file[name].ref
        file.create_dataset("refs", (2,), h5py.ref_dtype)
        file["refs"][0] = file["refs"].ref
        file["refs"][1] = file["/"].ref


def write_coordinates(path: Path) -> None:
    """200 datasets with numbers of netCDF dimensions that are nowhere: each asks for all the others."""
    with h5py.File(path, "w") as file:
        for i in range(200):
            made = file.create_dataset(f"d{i}", (2, 2), "i1")
            made.make_scale()
            made.attrs["_Netcdf4Coordinates"] = np.array([10**6 + i, 10**6 + i + 1], "i4")


def write_references(path: Path) -> None:
    """500 references to as many groups: HDF5 searches the file for the name of each."""
    with h5py.File(path, "w", libver="latest") as file:
        groups = [file.create_group(f"g{i}") for i in range(500)]
        file["refs"] = np.array([group.ref for group in groups], h5py.ref_dtype)


def write_virtual(path: Path) -> None:
    """Virtual datasets of themselves, of each other, and of 10^9 others, thirty at each of six levels."""
    with h5py.File(path, "w", libver="latest") as file:
        map_itself(file, "self", ["self"])
        map_itself(file, "one", ["other"])
        map_itself(file, "other", ["one"])
        file["l0"] = np.zeros(4, "i1")
        for level in range(6):
            map_itself(file, f"l{level + 1}", [f"l{level}"] * 30)
        for level in range(35):
            map_itself(file, f"deep{level + 1}", [f"deep{level}" if level else "l0"])


def map_itself(file: h5py.File, name: str, sources: list[str]) -> None:
    """Make a virtual dataset of sources in the same file."""
    layout = h5py.VirtualLayout((4 * len(sources),), "i1")
    for i, source in enumerate(sources):
        layout[4 * i : 4 * i + 4] = h5py.VirtualSource(".", source, shape=(4,))[0:4]
    file.create_virtual_dataset(name, layout)


def write_suggestions(path: Path) -> None:
    """A soft link of 60,000 characters to nowhere, among 100 names nearly as it."""
    with h5py.File(path, "w") as file:
        text = "abcdefghij" * 6000
        for i in range(100):
            file.create_group(f"{text}{i}")
        file["soft"] = h5py.SoftLink(text + "x")
        map_itself(file, "virtual", [text + "y"])


BOMBS: dict[str, Callable[[Path], None]] = {
    name.removeprefix("write_"): make
    for name, make in list(globals().items())
    if name.startswith("write_") and callable(make)
}
"""All functions of this module that write a file, by name."""
