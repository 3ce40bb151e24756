"""Damaged files: h5bound does not crash or hang, and reads no data where h5py reads none.

A test run covers a few files of each kind. ``python -m tests.e2e.test_damaged --flips 1000`` covers as many of each
kind as it says, and prints the results.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import h5py
import numpy as np
import pytest
from zarr.errors import UnstableSpecificationWarning

from h5bound import H5Store, check, convert, from_hdf5
from h5bound.errors import CorruptChunkError, H5BoundError
from h5bound.listing.entries import list_file
from tests.support.bombs import make_filtered
from tests.support.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

SECONDS = 60.0
NBYTES = 4 << 30
STEP = 64
"""Bytes between one truncation and the next."""

# The files.


def write_deflate(path: Path, libver: Any = "earliest") -> None:
    with h5py.File(path, "w", libver=libver) as file:
        values = np.random.default_rng(0).integers(0, 9, (20, 12), "i4")
        file.create_dataset("a", data=values, chunks=(7, 12), compression="gzip", shuffle=True)
        file.create_dataset("group/b", data=values[0], chunks=(5,), maxshape=(None,), compression="gzip")


def write_checked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        values = np.random.default_rng(0).integers(0, 9, (40,), "i2")
        file.create_dataset("a", data=values, chunks=(16,), compression="gzip", fletcher32=True)
        file.create_dataset("b", data=values, chunks=(16,), shuffle=True, fletcher32=True)


def write_text(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=[f"text {i}" * (i % 3) for i in range(12)], chunks=(5,), compression="gzip")
        file["b"] = ["one", "two", "three"]
        sequences = file.create_dataset("c", (3,), h5py.vlen_dtype("i4"))
        sequences[0], sequences[2] = [1, 2, 3], [4]


def write_compound(path: Path) -> None:
    kind = np.dtype([("x", "f4"), ("text", "S5"), ("in", [("y", "i2"), ("z", "u1", (3,))])])
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.zeros(9, kind), chunks=(4,), compression="lzf")
        file.create_dataset("b", data=np.arange(6), dtype=h5py.enum_dtype({"A": 0, "B": 5}, "i1"))
        mixed = np.dtype([("n", "i4"), ("s", h5py.string_dtype())])
        file["c"] = np.array([(1, "one"), (2, "two")], mixed)


def write_attributes(path: Path, libver: Any = "earliest") -> None:
    with h5py.File(path, "w", libver=libver) as file:
        file["a"] = np.arange(5)
        for i in range(12):
            file["a"].attrs[f"attribute {i}"] = [np.arange(i + 1), "text", np.bytes_("abc"), 1.5][i % 4]
        file["a"].attrs["to"] = file["a"].ref
        file.attrs["title"] = "file"
        file["a"].make_scale("a")
        file["b"] = np.arange(5.0)
        file["b"].dims[0].attach_scale(file["a"])


def write_layouts(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file["contiguous"] = np.arange(30.0)
        file.create_dataset("scaled", data=np.arange(30), chunks=(8,), scaleoffset=0)
        file.create_dataset("fixed", data=np.arange(30), chunks=(4,))
        file.create_dataset("growing", data=np.arange(30), chunks=(4,), maxshape=(None,), compression="gzip")
        file.create_dataset("tree", data=np.arange(36).reshape(6, 6), chunks=(3, 3), maxshape=(None, None))
        file["link"] = h5py.SoftLink("/contiguous")
        file["again"] = file["fixed"]


def write_virtual(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        for i in range(2):
            file.create_dataset(f"part{i}", data=np.arange(8) + i, chunks=(4,), compression="gzip")
        layout = h5py.VirtualLayout((2, 8), "i8")
        for i in range(2):
            layout[i] = h5py.VirtualSource(".", f"part{i}", shape=(8,))
        file.create_virtual_dataset("whole", layout, fillvalue=-1)


KINDS: dict[str, Callable[[Path], None]] = {
    "deflate": write_deflate,
    "deflate, latest format": lambda path: write_deflate(path, "latest"),
    "checksums": write_checked,
    "text and sequences": write_text,
    "compounds": write_compound,
    "attributes": write_attributes,
    "attributes, latest format": lambda path: write_attributes(path, "latest"),
    "layouts, latest format": write_layouts,
    "virtual": write_virtual,
}

# What the other process does.


def digest(value: Any) -> str:
    """Return a short name for a result."""
    if isinstance(value, np.ndarray) and value.dtype == object and not value.shape:
        value = value.item()  # h5py gives the one text or sequence itself
    if type(value) in (str, bytes):
        return spell(value)
    array = np.asarray(value)
    if array.dtype.hasobject:
        return f"{array.shape} {spell(array.tolist())}"
    return f"{array.shape} {array.dtype.str} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}"


def spell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(spell, value))}]"
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.tolist()}"
    if isinstance(value, np.void):
        return spell(value.tolist())
    return "reference" if isinstance(value, h5py.Reference) else repr(value)


def read_plainly(path: Path) -> dict[str, tuple[bool, str]]:
    """Return what h5py reads of each dataset, or (False, error)."""
    found: dict[str, tuple[bool, str]] = {}
    with h5py.File(path, "r") as file:
        for name in walk(file, "", 0):
            try:
                found[name] = True, digest(file[name][()])
            except Exception as error:  # noqa: BLE001 - it is compared
                found[name] = False, f"{type(error).__name__}: {error}"
    return found


def walk(group: h5py.Group, above: str, depth: int) -> Iterator[str]:
    """Return the paths of all datasets by hard links."""
    try:
        names = list(group)[:100]
    except Exception:  # noqa: BLE001 - it cannot be listed
        return
    for name in names:
        try:
            if group.get(name, getlink=True, getclass=True) is not h5py.HardLink:
                continue
            item = group[name]
        except Exception:  # noqa: BLE001 - it cannot be opened
            continue
        if isinstance(item, h5py.Dataset):
            yield f"{above}/{name}"
        elif isinstance(item, h5py.Group) and depth < 3:
            yield from walk(item, f"{above}/{name}", depth + 1)


def read_arrays(path: Path, names: list[str]) -> dict[str, tuple[bool, str]]:
    """Return what `from_hdf5` reads of each dataset, or (False, error)."""
    found: dict[str, tuple[bool, str]] = {}
    for name in names:
        try:
            found[name] = (
                True,
                digest(from_hdf5(path, name, chunks={}, allow_external=[path.parent]).compute(scheduler="sync")),
            )
        except H5BoundError as error:
            found[name] = False, f"{type(error).__name__}: {error}"
    return found


def list_objects(path: Path) -> int:
    """List a file with `h5bound ls` and `H5Store`."""
    return len(H5Store(path)) + len(list_file(path).entries)


def convert_and_verify(path: Path, target: Path) -> tuple[list[str], list[str]]:
    """Return the paths that a conversion wrote, and those that differ in the verification."""
    with warnings.catch_warnings(), dask.config.set(scheduler="sync"):
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", UnstableSpecificationWarning)
        report = convert(path, target, on_unsupported="skip", overwrite=True, verify=True)
    assert report.verification is not None
    return [entry.path for entry in report.arrays], [item.path for item in report.verification.differences]


def check_file(path: Path) -> list[str]:
    """Return the paths that `check` names: what is damaged, or could not be read."""
    with dask.config.set(scheduler="sync"):
        report = check(path, allow_external=[path.parent])
    return [*(item.path for item in report.damages), *(item.path for item in report.unchecked)]


def list_summed(path: Path) -> list[tuple[str, int, int]]:
    """Return the dataset, the first byte and the end of each chunk that has a checksum."""
    with h5py.File(path, "r") as file:
        chunks: list[tuple[str, int, int]] = []
        for name in walk(file, "", 0):
            dataset = file[name]
            filters = dataset.id.get_create_plist()
            codes = {filters.get_filter(i)[0] for i in range(filters.get_nfilters())}
            if codes & {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32}:
                dataset.id.chunk_iter(
                    lambda item, name=name: chunks.append((name, item.byte_offset, item.byte_offset + item.size))
                )
    return chunks


def is_named(name: str, named: list[str]) -> bool:
    """Return whether a dataset, a group above it, or for a virtual dataset a source is among the names."""
    sources = ("/part0", "/part1") if name == "/whole" else ()
    return any(f"{path}/".startswith(f"{other.rstrip('/')}/") for path in (name, *sources) for other in named)


# What is made of it.


@dataclass(slots=True)
class Tally:
    """The damaged files of a run, and their results."""

    files: Counter[str] = field(default_factory=Counter)
    """Number of truncations and flips."""
    seen: Counter[str] = field(default_factory=Counter)
    """Number of datasets by result."""
    faults: list[str] = field(default_factory=list)


class Trial:
    """A run over damaged files, each read in another process.

    Parameters
    ----------
    folder
        Directory for the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker = Worker(SECONDS, NBYTES)
        self.tally = Tally()
        self.whole: dict[str, tuple[bool, str]] = {}
        self.summed: list[tuple[str, int, int]] = []

    def begin(self, kind: str) -> bytes:
        """Write a whole file of a kind, and return its bytes."""
        path = self.folder / "whole.h5"
        KINDS[kind](path)
        self.whole, self.summed = read_plainly(path), list_summed(path)
        return path.read_bytes()

    def close(self) -> None:
        """Stop the other process."""
        self.worker.stop()

    def try_truncations(self, kind: str, raw: bytes, step: int = STEP) -> None:
        """Test a file truncated after every `STEP` bytes."""
        for size in range(0, len(raw), step):
            self.try_file(f"{kind}, {size} of {len(raw)} bytes", raw[:size], converted=size % (8 * step) == 0)
            self.tally.files["truncations"] += 1

    def try_flips(self, kind: str, raw: bytes, seeds: range, *, converted: int) -> None:
        """Test a file with one bit flipped, another one for each seed; a part of them is converted too."""
        for seed in seeds:
            place = random.Random(f"{kind} {seed}").randrange(8 * len(raw))
            changed = bytearray(raw)
            changed[place // 8] ^= 1 << place % 8
            self.try_file(f"{kind}, bit {place}", bytes(changed), converted=seed % converted == 0, changed=place // 8)
            self.tally.files["flips"] += 1

    def try_file(self, what: str, raw: bytes, *, converted: bool, changed: int | None = None) -> None:
        """Test one file, in which a byte is `changed`; a fault is tested again in a new process."""
        path = self.folder / "damaged.h5"
        path.write_bytes(raw)
        if self.find_faults(path, converted=converted, changed=changed):
            self.worker.stop()
            found = self.find_faults(path, converted=converted, changed=changed)
            self.tally.faults += [f"{what}: {fault}" for fault in found]
            if found:
                (self.folder / f"fault {len(self.tally.faults)}.h5").write_bytes(raw)

    def find_faults(self, path: Path, *, converted: bool, changed: int | None) -> list[str]:
        """Return what h5bound does wrong."""
        plain = self.worker.call(read_plainly, path)
        expected: dict[str, tuple[bool, str]] = plain.value or {}
        if plain.died:
            self.tally.seen["files on which h5py itself dies"] += 1
            return []
        faults = []
        listed = self.worker.call(list_objects, path)
        if listed.died or (listed.error and not listed.ours):
            faults.append(f"ls {listed.died or listed.error}")
        if plain.error and not listed.error:
            faults.append("ls opens what h5py does not")
        found = self.worker.call(read_arrays, path, list(expected))
        if found.died or found.error:
            return [*faults, f"from_hdf5 {found.died or found.error}"]
        faults += [fault for name in expected if (fault := self.judge(name, expected[name], found.value[name]))]
        faults += self.find_check_faults(path, expected, found.value, changed=changed)
        return faults + (self.find_conversion_faults(path, expected, opened=not plain.error) if converted else [])

    def find_check_faults(
        self,
        path: Path,
        expected: dict[str, tuple[bool, str]],
        found: dict[str, tuple[bool, str]],
        *,
        changed: int | None,
    ) -> list[str]:
        """Return what `check` does not find: what cannot be read, and changed bytes in a chunk with a checksum."""
        outcome = self.worker.call(check_file, path)
        if outcome.died or (outcome.error and not outcome.ours):
            return [f"check {outcome.died or outcome.error}"]
        if outcome.error:
            return []
        broken = [name for name in expected if not (expected[name][0] and found[name][0])]
        gone = [name for name in self.whole if name not in expected] if changed is not None else []
        hit = [name for name, start, stop in self.summed if changed is not None and start <= changed < stop]
        altered = [name for name in hit if name in expected and expected[name] != self.whole[name]]
        self.tally.seen["datasets of which check finds the damage"] += len({*broken, *gone, *altered})
        missed = [name for name in dict.fromkeys([*broken, *altered]) if not is_named(name, outcome.value)]
        return [
            f"{name}: check finds nothing where reading has {expected[name][1]}, {found[name][1]}" for name in missed
        ]

    def judge(self, name: str, expected: tuple[bool, str], found: tuple[bool, str]) -> str:
        """Return what is wrong with the values of a dataset."""
        if not expected[0]:
            self.tally.seen["datasets that h5py refuses"] += 1
            return f"{name}: data where h5py has {expected[1]}" if found[0] else ""
        if not found[0]:
            self.tally.seen["datasets that only h5bound refuses"] += 1
            strict = ("CorruptChunkError", "UnsafeSourceError", "UnsupportedError")
            return "" if found[1].startswith(strict) else f"{name}: {found[1]} where h5py reads"
        self.tally.seen["datasets that both read"] += 1
        return "" if found[1] == expected[1] else f"{name}: {found[1]} where h5py has {expected[1]}"

    def find_conversion_faults(self, path: Path, expected: dict[str, tuple[bool, str]], *, opened: bool) -> list[str]:
        """Return what a conversion and its verification do wrong."""
        self.tally.files["conversions"] += 1
        outcome = self.worker.call(convert_and_verify, path, self.folder / "damaged.zarr")
        if outcome.died or (outcome.error and not outcome.ours):
            return [f"convert {outcome.died or outcome.error}"]
        if outcome.error:
            return []
        if not opened:
            return ["convert opens what h5py does not"]
        carried, differing = outcome.value
        return [
            f"{name}: converted and verified where h5py has {expected[name][1]}"
            for name in carried
            if name in expected and not expected[name][0] and name not in differing
        ]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    made = Trial(tmp_path_factory.mktemp("damaged"))
    yield made
    made.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_is_read_as_h5py_reads_it(trial: Trial, kind: str) -> None:
    trial.try_file(kind, trial.begin(kind), converted=True)
    assert trial.tally.faults == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_refused(trial: Trial, kind: str) -> None:
    trial.try_truncations(kind, trial.begin(kind), 16 * STEP)
    assert trial.tally.faults == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_a_changed_bit_gives_no_data_that_h5py_does_not_give(trial: Trial, kind: str) -> None:
    trial.try_flips(kind, trial.begin(kind), range(25), converted=5)
    assert trial.tally.faults == []


# Single faults, each found by the trials above.


def damage_key(path: Path) -> None:
    """Lower the upper bound of a B-tree, so that HDF5 lists the last chunk, but does not find it."""
    raw = bytearray(path.read_bytes())
    node = raw.index(b"TREE\x01")  # HDF5 File Format Specification, III.A.1: of raw data chunks
    entries = int.from_bytes(raw[node + 6 : node + 8], "little")
    last = node + 24 + entries * (4 + 4 + 16 + 8)
    raw[last + 8 : last + 16] = bytes(8)
    path.write_bytes(raw)


def damage_address(path: Path) -> None:
    """Move the address of the first chunk far past the end of the file."""
    raw = bytearray(path.read_bytes())
    node = raw.index(b"TREE\x01")
    raw[node + 24 + 24 + 5] ^= 1
    path.write_bytes(raw)


def damage_level(path: Path) -> None:
    """Set a level of deflate that HDF5 refuses even for reading."""
    raw = bytearray(path.read_bytes())
    place = raw.index(b"deflate\0") + 8
    raw[place + 1] |= 8
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_key, r"/x: the chunk index is damaged: HDF5 lists a chunk at \(20,\), but does not find it"),
        (damage_address, "its .* bytes at offset .* extend past the end of the file"),
        (damage_level, "cannot read a chunk of .*: .*filter returned failure"),
    ],
)
def test_a_damaged_chunk_is_an_error_of_ours_wherever_it_is_read(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(30), chunks=(10,), compression="gzip")
        file["y"] = 1
    damage(path)
    with pytest.raises(CorruptChunkError, match=message):
        from_hdf5(path, "x", chunks={}).compute()
    for codecs in ("keep", "zstd:3"):
        with pytest.raises(H5BoundError, match=f"x.*{message}"):
            convert(path, tmp_path / f"{codecs} failed.zarr", codecs=codecs)
        report = convert(path, tmp_path / f"{codecs}.zarr", codecs=codecs, on_unsupported="skip", overwrite=True)
        assert [item.path for item in report.skipped] == ["/x"]
        assert [entry.path for entry in report.arrays] == ["/y"]


@pytest.mark.parametrize("options", [{"chunks": (1000,)}, {"chunks": (1000,), "compression": "gzip"}], ids=str)
def test_what_lies_behind_the_end_that_hdf5_knows_is_no_data(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        file.create_dataset("x", data=np.random.default_rng(0).integers(0, 99, 4000), **options)
    raw = bytearray(path.read_bytes())
    end = int.from_bytes(raw[40:48], "little")  # the superblock's end of file (File Format Specification, II.A)
    assert end == len(raw)
    raw[40:48] = (end - 8).to_bytes(8, "little")
    path.write_bytes(raw)
    with h5py.File(path) as file, pytest.raises(OSError, match="addr overflow"):
        file["x"][()]
    with pytest.raises(CorruptChunkError):
        from_hdf5(path, "x", chunks={}).compute()
    for codecs in ("keep", "zstd"):
        with pytest.raises(CorruptChunkError):
            convert(path, tmp_path / f"{codecs}.zarr", codecs=codecs)


def test_a_chunk_that_hdf5_pads_with_what_is_in_memory_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(8)
        kind.set_strpad(h5py.h5t.STR_SPACEPAD)
        for name, item in (("number", h5py.h5t.STD_I32LE), ("text", kind)):
            make_filtered(file, name, item, 1000, [1])
            file[name].id.write_direct_chunk((0,), zlib.compress(b"x" * 1000))
        assert len(file["number"][:].tobytes()) == 4000, "h5py gives data"
    for name in ("number", "text"):
        with pytest.raises(CorruptChunkError, match=r"decodes to 1000 bytes|is not a zlib stream of 8000 bytes"):
            from_hdf5(tmp_path / "a.h5", name).compute()


def main() -> int:
    """Test many damaged files, and print the results."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--flips", type=int, default=1000, help="of each kind of file")
    parser.add_argument("--first", type=int, default=0, help="seed of the first flip")
    parser.add_argument("--converted", type=int, default=10, help="one in so many is converted too")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--folder", type=Path, help="where faults are kept")
    given = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(given.folder or Path(folder))
        for kind in given.kinds:
            raw = trial.begin(kind)
            trial.try_truncations(kind, raw)
            trial.try_flips(kind, raw, range(given.first, given.first + given.flips), converted=given.converted)
            sys.stderr.write(f"{kind}: {len(raw)} bytes, {len(trial.tally.faults)} faults so far\n")
        trial.close()
    tally = trial.tally
    lines = [
        f"{len(given.kinds)} kinds of files, {time.perf_counter() - started:.0f} s, {trial.worker.starts} processes"
    ]
    lines += [f"{count:,} {what}" for what, count in [*tally.files.items(), *tally.seen.items()]]
    lines += [f"{len(tally.faults)} faults", *tally.faults]
    sys.stdout.write("\n".join(lines) + "\n")
    return min(len(tally.faults), 1)


if __name__ == "__main__":
    sys.exit(main())
