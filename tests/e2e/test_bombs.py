"""Tiny files that declare far more than they hold, or decompress to it, cost little memory and time."""

from __future__ import annotations

import struct
import sys
import warnings
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pytest

from h5bound import H5Store, convert, from_hdf5, verify
from h5bound.hdf5.hierarchy import read_hierarchy
from h5bound.listing.entries import list_file
from h5bound.reader.dataset_reader import DatasetReader
from tests.support.bombs import BOMBS, make_filtered
from tests.support.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

SECONDS = 120.0
LIMIT = 16 << 30
"""Address space, in bytes, that a call may reserve: memory that is never touched counts here too."""
PEAK = 256 << 20
"""Memory, in bytes, that a call may use."""

MANY = 'more than the 1,000,000 that a graph can hold; use chunks="auto"'
NO_STREAM = "is not a zlib stream of"
TOO_LONG = "the values of variable length in the block at"

REFUSED: dict[str, dict[str, str]] = {
    "attributes": {},
    "axes": {},
    "coordinates": {},
    "deep": {"/": "max_depth"},
    "endless": {"/blocks": MANY, "/chunked": MANY, "/contiguous": MANY, "/square": MANY},
    "inflated": dict.fromkeys(["/direct", "/foreign", "/padded", "/record", "/text"], NO_STREAM)
    | {"/huge": "decodes to 20000 bytes where 2147483648 are declared"},
    "inflated_twice": dict.fromkeys(["/x", "/y"], "is not a zlib stream of at most"),
    "ladder": {},
    "long_text": dict.fromkeys(["/array", "/piece", "/record", "/sequence", "/text"], TOO_LONG),
    "members": dict.fromkeys(["/arrays", "/compounds", "/sequences"], "nested more than 32 levels deep"),
    "petabyte": {"/huge": MANY},
    "places": {},
    "references": {},
    "scales": {},
    "shared_sequence": dict.fromkeys(["/nested", "/texts", "/record"], TOO_LONG),
    "shared_text": {"/many": TOO_LONG, "/sequences": TOO_LONG},
    "soft": {},
    "suggestions": {"/virtual": "no such dataset"},
    "virtual": {
        "/self": "the virtual dataset is a source of itself",
        "/one": "the virtual dataset is a source of itself",
        "/other": "the virtual dataset is a source of itself",
        "/l6": "would open more than 100,000 datasets",
        "/deep35": "more than 32 levels of virtual datasets",
    },
    "web": {"/": "max_depth"},
    "wide": {"/array of arrays": "h5py has no type for", "/more": "h5py has no type for"},
    "widened": {},
}
"""What `from_hdf5` refuses, with a part of the message; the root stands for calls that read the whole hierarchy."""

SKIPPED: dict[str, set[str]] = {
    "attributes": {"/x"},
    "inflated": {"/padded", "/record", "/text"},
    "long_text": {"/array", "/piece", "/record", "/sequence", "/text"},
    "members": {"/arrays", "/compounds", "/sequences"},
    "places": {"/huge"},
    "shared_sequence": {"/nested", "/texts", "/record"},
    "shared_text": {"/many", "/sequences"},
    "suggestions": {"/virtual"},
    "wide": {"/array of arrays", "/more", "/opaque", "/compound"},
}
"""What a conversion leaves out; chunks that are kept are not decoded."""

DIFFERING: dict[str, set[str]] = {"inflated": {"/direct", "/foreign", "/huge"}, "inflated_twice": {"/x", "/y"}}
"""What a verification then finds, since it decodes them."""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(SECONDS, LIMIT) as made:
        yield made


def read_one(path: Path, name: str) -> str:
    """Read the first element of a dataset, then its first block."""
    array = from_hdf5(path, name)
    element = array[(0,) * array.ndim].compute(scheduler="sync")
    block = array.blocks[(0,) * array.ndim] if array.ndim else array
    block.compute(scheduler="sync")
    return str(element)[:20]


def list_all(path: Path) -> list[str]:
    """List a file with each call that does so, and return the paths of its datasets."""
    list_file(path)
    assert len(H5Store(path)) >= 0
    with h5py.File(path) as file:
        return [record.path for record in read_hierarchy(file).datasets]


def convert_all(path: Path, target: Path, zarr_format: Literal[2, 3]) -> tuple[set[str], set[str]]:
    """Convert a file and verify the store; return what was left out, and what differs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        report = convert(path, target, on_unsupported="skip", zarr_format=zarr_format)
        found = verify(path, target)
    return {item.path for item in report.skipped}, {item.path for item in found.differences}


def claim_4_gib(path: Path) -> None:
    """Write a dataset whose chunk index, a B-tree of version 1, claims 4 GiB for one of its chunks."""
    with h5py.File(path, "w", libver="earliest") as file:
        made = file.create_dataset("x", data=np.arange(4000), chunks=(1000,), compression="gzip")
        nbytes = made.id.get_chunk_info_by_coord((1000,)).size
    data = path.read_bytes()
    key = struct.pack("<IIQQ", nbytes, 0, 1000, 0)  # encoded bytes, filter mask, first element
    assert data.count(key) == 1
    path.write_bytes(data.replace(key, struct.pack("<IIQQ", 2**32 - 1, 0, 1000, 0)))


def convert_open(path: Path, target: Path, mode: Literal["r", "r+"]) -> str:
    """Convert a file that is open in a mode, and return why its only dataset was left out."""
    with h5py.File(path, mode) as file:
        report = convert(file, target, on_unsupported="skip", workers=1)
    return str(report.skipped[0].reason)


def check(worker: Worker, refused: str, function: Any, *arguments: Any) -> Any:
    """Call a function in another process, and check its result, memory and time."""
    outcome = worker.call(function, *arguments)
    assert outcome.died == ""
    assert outcome.nbytes < PEAK
    assert outcome.ours or not outcome.error, outcome.error
    assert refused in outcome.error
    assert bool(refused) == bool(outcome.error), outcome.error
    return outcome.value


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_read_or_refused_in_little_memory(tmp_path: Path, worker: Worker, bomb: str) -> None:
    path = tmp_path / "bomb.h5"
    BOMBS[bomb](path)
    refused = REFUSED[bomb]
    names = check(worker, "name a group below the root" if "/" in refused else "", list_all, path)
    chosen = [*refused, *sorted({*(names or []), *refused} - refused.keys())[:4]]
    for name in chosen:
        if name != "/":
            check(worker, refused.get(name, ""), read_one, path, name)


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("zarr_format", [3, 2])
def test_a_bomb_is_converted_and_verified_in_little_memory(
    tmp_path: Path, worker: Worker, bomb: str, zarr_format: Literal[2, 3]
) -> None:
    path = tmp_path / "bomb.h5"
    BOMBS[bomb](path)
    found = check(worker, REFUSED[bomb].get("/", ""), convert_all, path, tmp_path / "bomb.zarr", zarr_format)
    if bomb == "virtual":  # all that draws on more than it may, which is not listed here one by one
        assert {"/self", "/one", "/other", "/l6", "/deep35"} <= found[0]
        assert not found[1]
    elif "/" not in REFUSED[bomb]:
        assert found == (SKIPPED.get(bomb, set()), DIFFERING.get(bomb, set()))


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_nothing_is_allocated_for_a_chunk_that_claims_more_than_the_file_has(
    tmp_path: Path, mode: Literal["r", "r+"]
) -> None:
    claim_4_gib(tmp_path / "a.h5")
    with Worker(SECONDS, 2 << 30) as small:
        reason = check(small, "", convert_open, tmp_path / "a.h5", tmp_path / "a.zarr", mode)
    assert "the chunk at (1,): its 4,294,967,295 bytes at offset" in reason


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of one call")
def test_the_memory_of_a_call_is_seen(worker: Worker) -> None:
    outcome = worker.call(np.ones, PEAK // 8)
    assert outcome.nbytes >= 0.99 * PEAK  # the system counts pages some at a time


# What is looked at before HDF5 is asked changes nothing of what is read.


def write_looked_at(path: Path) -> None:
    text, sequence = h5py.string_dtype(), h5py.vlen_dtype("i2")
    nested = np.dtype([("a", "i1"), ("s", text), ("in", [("q", sequence), ("z", "f8")]), ("r", h5py.ref_dtype)])
    several = np.dtype((text, (2, 3)))
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        stored: tuple[dict[str, Any], ...] = ({}, {"chunks": (2, 2)}, {"chunks": (3, 4), "compression": "gzip"})
        for number, options in enumerate(stored):
            words = np.array([f"{'ä' * int(i)}" for i in rng.integers(0, 50, 20)], object).reshape(4, 5)
            file.create_dataset(f"text{number}", data=words, dtype=text, **options)
            made = file.create_dataset(f"sequence{number}", (4, 5), sequence, **options)
            for i in np.ndindex(4, 5):
                made[i] = np.arange(sum(i))
            record = file.create_dataset(f"record{number}", (4, 5), nested, **options)
            record[1, 2] = (7, "seven", (np.arange(3), 1.5), file["text0"].ref)
            file.create_dataset(f"several{number}", (4, 5), several, **options)[3, 4] = [["a", "b", "c"]] * 2
        file.create_dataset("scalar", data="text", dtype=text)
        make_filtered(file, "twice", h5py.h5t.STD_I32LE, 100, [2, 1, 3, 1])
        file["twice"][:] = np.arange(100)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_values_of_variable_length_are_read_as_h5py_reads_them(tmp_path: Path, libver: str) -> None:
    write_looked_at(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        for name, dataset in [(name, file[name]) for name in file]:
            reader = DatasetReader(dataset)
            whole = tuple(slice(0, n) for n in dataset.shape)
            part = tuple(slice(1, n - 1) for n in dataset.shape)
            for region in (whole, part):
                reader.check(region)
                got, expected = reader.read(region), dataset[region or ()]
                if dataset.dtype.names is None:
                    assert [str(item) for item in np.ravel(got)] == [str(item) for item in np.ravel(expected)], name
            assert reader.strategy == ("direct" if name == "twice" else "h5py")
            reader.close()


def test_two_chunks_that_claim_more_than_the_file_has_are_refused_only_where_they_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("x", (4,), h5py.string_dtype(), chunks=(1,))
        made[:] = ["a" * 50_000, "b", "c", "d"]
        long = made.id.read_direct_chunk((0,))[1]
        for place in (1, 2):
            made.id.write_direct_chunk((place,), long)
    assert from_hdf5(tmp_path / "a.h5", "x", chunks=(1,)).compute().tolist() == [b"a" * 50_000] * 3 + [b"d"]
    with pytest.raises(PermissionError, match=r"100,000 bytes or more, but the whole file has 5"):
        from_hdf5(tmp_path / "a.h5", "x", chunks=(4,)).compute()
