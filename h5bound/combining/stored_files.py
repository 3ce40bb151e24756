"""Files of a store that are not named when others are added to it: the store stands for them.

Their records are made of what the provenance and the metadata documents say, and of the coordinates in the store. They
need not exist any more. Where a chunk has elements of them and of files that are added, theirs are read from the store.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.combination import describe_state
from h5bound.combining.file_scan import MAX_COORDINATE, FileScan, VariableScan
from h5bound.combining.kept_coordinates import can_order
from h5bound.conversion.provenance import skipped_from_json
from h5bound.errors import TargetError
from h5bound.hdf5.type_json import text_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from h5bound.combining.combined_store import CombinedStore, StoredVariable
    from h5bound.combining.joined import Rules
    from h5bound.reader.source import H5Source

NEW = -1
"""In place of the number that a file has in the store: it is not there."""


@dataclass(frozen=True, slots=True)
class StoredSource:
    """In place of the source of a file that is not read."""

    path: str
    remote = False
    live = False
    strict_state = True
    state = None  # unknown

    @property
    def key(self) -> tuple[str, str]:
        """What it has in common with no file that is read."""
        return "in the store", self.path

    def caller_file(self) -> None:
        """Return None: the caller holds no file that is not named."""

    def check_unchanged(self) -> None:
        """Do nothing: the file is not read, so it may have changed, or be gone."""


@dataclass(frozen=True, slots=True, eq=False)
class AllFiles:
    """The files of a store, and those that are added."""

    scans: list[FileScan]
    sources: list[H5Source]
    """Their sources; a `StoredSource` for those that are not named."""
    numbers: NDArray[np.int64]
    """The number that each has in the store; NEW for those that are added."""


def match_files(known: Sequence[Any], given: Sequence[Any]) -> list[int]:
    """Return for each entry of a file in the store the number of the given one that is the same, or has its name.

    NEW stands for those that are not given.

    >>> match_files(["a", "b"], ["b", "c"])
    [-1, 0]
    """
    matches = [NEW] * len(known)
    left = set(range(len(given)))
    for name in (repr, lambda entry: repr(entry["path"] if isinstance(entry, dict) else entry)):
        places = defaultdict[str, deque[int]](deque)
        for i in sorted(left):
            places[name(given[i])].append(i)
        for number, entry in enumerate(known):
            if matches[number] == NEW and places[name(entry)]:
                matches[number] = places[name(entry)].popleft()
                left.remove(matches[number])
    return matches


def add_stored(
    store: CombinedStore | None, scans: Sequence[FileScan], *, sources: Sequence[H5Source], rules: Rules
) -> AllFiles:
    """Return given files, with those of a store that are not among them. `store` is None if there is none.

    If none is missing, they are in the order in which they are given. Else those of the store keep theirs, and new ones
    come before the one of the store that is named after them, or last.
    """
    numbers = np.full(len(scans), NEW, np.int64)
    if store is None:
        return AllFiles(list(scans), list(sources), numbers)
    entries = json.loads(json.dumps([describe_state(scan) for scan in scans]))
    matches = match_files(list(map(simplify, store.record.files)), list(map(simplify, entries)))
    for number, place in enumerate(matches):
        if place != NEW:
            numbers[place] = number
    if NEW not in matches:
        return AllFiles(list(scans), list(sources), numbers)
    dropped = store.record.left_out
    scans = [
        replace(scan, variables={path: item for path, item in scan.variables.items() if path not in dropped})
        for scan in scans
    ]
    absent = [number for number, place in enumerate(matches) if place == NEW]
    stored: dict[int, tuple[FileScan, Any]] = {
        number: (scan, StoredSource(scan.path))
        for number, scan in zip(absent, describe_stored(store, absent, rules=rules), strict=True)
    }
    order = [(number, True, place) for number, place in enumerate(matches)] + place_new(numbers.tolist(), len(matches))
    order.sort()
    pairs = [(is_stored and stored.get(number)) or (scans[place], sources[place]) for number, is_stored, place in order]
    numbers = np.array([number if is_stored else NEW for number, is_stored, _ in order], np.int64)
    return AllFiles([scan for scan, _ in pairs], [source for _, source in pairs], numbers)


def place_new(numbers: Sequence[int], end: int) -> list[tuple[int, bool, int]]:
    """Return for each given file that the store of `end` files has not the number before which it comes, and its place.

    >>> place_new([NEW, 3, NEW], 4)
    [(4, False, 2), (3, False, 0)]
    """
    found, after = [], end
    for place in reversed(range(len(numbers))):
        if numbers[place] == NEW:
            found.append((after, False, place))
        else:
            after = numbers[place]
    return found


def simplify(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a file with its fields in one order."""
    stamps = entry.get("stamps", {})
    return {**{name: entry[name] for name in ("path", "size", "mtime_ns")}, "stamps": sorted(stamps.items())}


def describe_stored(store: CombinedStore, numbers: Sequence[int], *, rules: Rules) -> list[FileScan]:
    """Return the records of files of a store by their numbers there.

    Raise TargetError if readers do not see all of its nodes.
    """
    targets = {**{path: item.target for path, item in store.record.variables.items()}, **store.record.groups}
    if not store.attributes.keys() >= set(targets.values()):
        raise TargetError(f"{store.target.url}: a run was killed at its end; name all files once to complete the store")
    variables = {
        path: list_pieces(store, path, item=item, rules=rules) for path, item in store.record.variables.items()
    }
    nodes = {path: list_attributes(store, path, target, numbers=numbers) for path, target in targets.items()}
    details = {path: store.details[target] for path, target in targets.items() if target in store.details}
    skipped = tuple(map(skipped_from_json, store.skipped))
    return [
        FileScan(
            path=text_from_json(store.record.files[number]["path"]),
            state=None,
            groups={path: nodes[path][k] for path in store.record.groups},
            variables={
                path: replace(pieces[number] if len(pieces) > 1 else pieces[0], attributes=nodes[path][k])
                for path, pieces in variables.items()
                if number >= store.record.variables[path].source  # files before lack it
            },
            details=details,
            skipped=skipped if k == 0 else (),
            notes=(),
            links=(),
            external_states={},
            elsewhere=frozenset(),
            number_in_store=number,
            entry_in_store=store.record.files[number],
        )
        for k, number in enumerate(numbers)
    ]


def list_pieces(store: CombinedStore, path: str, *, item: StoredVariable, rules: Rules) -> list[VariableScan]:
    """Return the record of a variable in each file, without attributes; only one if it is the same in all."""
    document = store.documents.get(item.target)
    is_full = document is not None and document.get("zarr_format") == 2 and document["fill_value"] is None
    schema = item.schema
    if rules.new and item.axis is not None:
        chunks = None if schema.chunks is None else schema.chunks[1:]
        schema = replace(schema, dimensions=schema.dimensions[1:], chunks=chunks)
    common = VariableScan(
        target=item.target,
        schema=schema,
        shape=item.shape,
        attributes={},
        manifest=None,
        offset=None,
        stored_nbytes=int(is_full),  # then each chunk is written
        edge_unfiltered=None,
        values=None,
        digest=item.digest,
    )
    if item.axis is None or item.extent is None:
        return [common]
    values = read_coordinate(store, path, item=item, rules=rules)
    bounds = item.extent.starts.tolist()
    before, after = item.shape[: item.axis], item.shape[item.axis + 1 :]
    pieces = []
    for start, stop in pairwise(bounds):
        own = None if values is None or stop - start > MAX_COORDINATE else values[start:stop]
        shape = (*before, *(() if rules.new else (stop - start,)), *after)
        pieces.append(replace(common, shape=shape, values=own if own is None else own.reshape(shape)))
    return pieces


def read_coordinate(store: CombinedStore, path: str, *, item: StoredVariable, rules: Rules) -> NDArray[Any] | None:
    """Return the values of a coordinate from the store; None for another variable."""
    if not can_order(path, item.schema, len(item.shape), rules=rules):
        return None
    kept = store.coordinates.get(path)
    if kept is not None and kept.shape == item.shape:
        return kept
    return np.asarray(store.open(item.target, item.shape)[...]).astype(item.schema.dtype, copy=False)


def list_attributes(store: CombinedStore, path: str, target: str, *, numbers: Sequence[int]) -> list[Mapping[str, Any]]:
    """Return the attributes of a node in each of some files: those that differ are in the tables of the store."""
    values = store.attributes[target]
    tables = [table for table in store.tables if table["path"] == path]
    made: dict[tuple[int, ...], Mapping[str, Any]] = {}
    found = []
    for number in numbers:
        own = tuple(table["numbers"][number] for table in tables)
        if own not in made:
            pairs = zip(tables, own, strict=True)
            made[own] = {**values, **{table["name"]: table["values"][k] for table, k in pairs if k >= 0}}
        found.append(made[own])
    return found
