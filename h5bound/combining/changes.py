"""What comes to a store when files are added, and what stays in it as it is: from records alone, before any write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.combined_store import list_nodes
from h5bound.combining.differences import FileNames
from h5bound.combining.stored_files import NEW
from h5bound.combining.time_units import is_time
from h5bound.conversion.write_store import describe_documents, make_jobs
from h5bound.errors import TargetError
from h5bound.hdf5.type_json import text_from_json
from h5bound.planning.pieces import have_any
from h5bound.reader.meanings import PACKING, TIMES
from h5bound.stores.differences import list_differing_parts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence, Set

    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.combining.combination import Combination
    from h5bound.combining.combined_store import CombinedStore
    from h5bound.combining.file_scan import FileScan
    from h5bound.combining.joined import JoinedVariable

MAY_CHANGE = {"shape", "attributes"}
"""Fields of an array's metadata document that files may change that are added."""


STORAGE = {"codecs", "filters", "compressor", "chunk_grid", "chunks", "fill_value", "dtype"}
"""Fields that say how chunks are encoded, as the first file has them; `dtype` is that of format 2, with its order."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Changes:
    """What comes to a store, and what stays in it as it is."""

    store: CombinedStore
    written: Mapping[str, NDArray[np.bool_]]
    """By path of a variable, the files whose elements are written, or written again; one value without an axis."""
    kept: NDArray[np.bool_]
    """The files of which nothing is written."""
    is_done: bool
    """Whether there is nothing to do."""
    only_adds: bool
    """Whether the store is whole, and nothing of its files is written again, or over."""

    def affect(self, variable: JoinedVariable, chunk_coords: ChunkCoords, write_shape: Shape) -> NDArray[np.bool_]:
        """Return which chunks, or shards, of these coordinates are written; also those past the end."""
        written = self.written[variable.path]
        if variable.axis is None:
            return np.full(len(chunk_coords), written[0])
        coords, size, starts = chunk_coords[:, variable.axis], write_shape[variable.axis], variable.starts
        is_affected: NDArray[np.bool_] = have_any(starts, written, coords, size=size) | (coords * size >= starts[-1])
        return is_affected


def find_changes(
    store: CombinedStore, combination: Combination, numbers: NDArray[np.int64], *, update: bool
) -> Changes:
    """Return what is written of files that have these numbers in the store, in the order in which they were given.

    Raise TargetError if files changed, or come between those of the store, without `update`, if one that is not read
    would have to be, or if an array would be another one with the new files.
    """
    numbers = numbers[combination.joined.order]
    entries = json.loads(json.dumps(combination.inputs["combined"]["files"]))
    pairs = zip(numbers.tolist(), entries, strict=True)
    is_same = np.array([number != NEW and entry == store.record.files[number] for number, entry in pairs], bool)
    if not update:
        check_order(store, combination.files, numbers, is_same=is_same)
    stays = {
        path: find_staying(variable, store, numbers, is_same=is_same, entries=entries)
        for path, variable in combination.joined.variables.items()
    }
    check_stored(store, combination, stays)
    kept = is_same.copy()
    for path, variable in combination.joined.variables.items():
        kept[slice(None) if variable.axis is not None else [variable.source]] &= stays[path]
    is_done = store.is_whole and bool(kept.all()) and len(kept) == len(store.record.files)
    if not is_done:
        if not store.target.takes_more:
            raise TargetError(
                f"{store.target.url}: nothing can be added to a zip file; combine into a directory, or overwrite=True "
                "combines all files anew"
            )
        check_same_arrays(store, combination, stays)
    return Changes(
        store=store,
        written={path: ~stay for path, stay in stays.items()},
        kept=kept,
        is_done=is_done,
        only_adds=store.is_whole
        and int(kept.sum()) == len(store.record.files)
        and not any(takes_place(item, store, numbers) for item in combination.joined.variables.values()),
    )


def takes_place(variable: JoinedVariable, store: CombinedStore, numbers: NDArray[np.int64]) -> bool:
    """Return whether files that are added have elements in the place of some that the store has: they overlap."""
    before = store.record.variables.get(variable.path)
    if before is None or before.extent is None or variable.axis is None:
        return False
    return bool((variable.starts[:-1][numbers == NEW] < before.extent.starts[-1]).any())


def check_order(
    store: CombinedStore, files: Sequence[FileScan], numbers: NDArray[np.int64], *, is_same: NDArray[np.bool_]
) -> None:
    """Raise TargetError if files of the store changed, or if they are not the first of all in the same order."""
    names = [file.path for file in files]
    changed = np.flatnonzero((numbers != NEW) & ~is_same).tolist()
    if changed:
        more = f" and {len(changed) - 1:,} more" if changed[1:] else ""
        raise TargetError(
            f"{store.target.url}: {names[changed[0]]}{more} changed since the store was made; update=True writes again "
            "what comes from there; if it is another file of the same name, name all files of the store"
        )
    count = len(store.record.files)
    odd = np.flatnonzero(numbers[:count] != np.arange(count)).tolist()
    if not odd:
        return
    place, new = odd[0], np.flatnonzero(numbers[: int(np.flatnonzero(numbers != NEW)[-1])] == NEW).tolist()
    absent = [number for number, file in enumerate(files) if number > place and file.in_store]
    also = f", if these files of the store are named too: {FileNames(names).describe(absent)}" if absent else ""
    if new:
        after = text_from_json(store.record.files[numbers[new[0] :][numbers[new[0] :] != NEW][0]]["path"])
        more = f" and {len(new) - 1:,} more" if new[1:] else ""
        what = f"{names[new[0]]}{more} would come before {after}, which the store has already"
    else:
        what = f"its files have another order: {names[place]} was number {numbers[place] + 1:,}, now {place + 1:,}"
    raise TargetError(f"{store.target.url}: {what}; update=True writes again what comes to another place{also}")


def find_staying(
    variable: JoinedVariable,
    store: CombinedStore,
    numbers: NDArray[np.int64],
    *,
    is_same: NDArray[np.bool_],
    entries: Sequence[Any],
) -> NDArray[np.bool_]:
    """Return the files whose elements of a variable the store has at the same place; without an axis one value."""
    stay = is_same.copy() if variable.axis is not None else is_same[[variable.source]]
    for record in (store.record, store.attempted):
        if record is None:
            continue
        before = record.variables.get(variable.path)
        if before is None or before.axis != variable.axis:
            return np.zeros_like(stay)
        if before.extent is None:
            number = int(numbers[variable.source])
            stay &= before.source == number and record.files[number] == entries[variable.source]
            continue
        known = [
            0 <= number < len(record.files) and record.files[number] == entry
            for number, entry in zip(numbers.tolist(), entries, strict=True)
        ]
        stay &= known
        places = np.where(known, numbers, 0)
        starts, skips = before.extent.starts, before.extent.skips
        stay &= (starts[places] == variable.starts[:-1]) & (skips[places] == variable.skips)
        stay &= np.diff(starts)[places] >= np.diff(variable.starts)
    return stay


def check_stored(store: CombinedStore, combination: Combination, stays: Mapping[str, NDArray[np.bool_]]) -> None:
    """Raise TargetError if elements of a file that is not read are to be written."""
    moved: dict[int, str] = {}
    for path, stay in stays.items():
        for place, file in enumerate(combination.files):
            if file.in_store and path in file.variables and len(stay) > 1 and not stay[place]:
                moved.setdefault(place, path)
    if moved:
        file, reason = combination.files[min(moved)], "may have been written over by a run that was killed"
        reason = "come to another place" if store.is_whole else reason
        names = FileNames([file.path for file in combination.files])
        raise TargetError(
            f"{store.target.url}: the elements of {file.path} in {moved[min(moved)]} {reason}; name these files of the "
            f"store too: {names.describe(moved)}"
        )


def check_same_arrays(store: CombinedStore, combination: Combination, stays: Mapping[str, NDArray[np.bool_]]) -> None:
    """Raise TargetError if an array of the store would have another type, chunks, codecs or fill value, or is gone.

    So it is if its elements that stay would mean something else.
    """
    target = store.target
    jobs = make_jobs(target, combination.scan, combination.plan, skip=False)
    _, root = describe_documents(target.zarr_format, combination.scan, jobs)
    planned, attributes = list_nodes(json.loads(json.dumps(root)), target.zarr_format)
    variables = {item.target: item for item in combination.joined.variables.values()}
    for path, document in store.documents.items():
        now, variable = planned.get(path), variables.get(path)
        parts = set() if now is None else set(list_differing_parts(document, now)) - MAY_CHANGE
        if now is not None and variable is not None and stays[variable.path].any():
            parts |= list_meanings(store.attributes.get(path, {}), attributes.get(path, {}))
        if parts or now is None:
            what = "be gone" if now is None else f"have another {', '.join(sorted(parts))}"
            names = [name for name, item in store.record.variables.items() if item.target == path]
            why = explain(combination, variable, parts) if variable else list_decided(combination, names)
            file = None if variable is None else combination.files[variable.source]
            name = "" if file is None or not file.in_store else f"name {file.path} of the store too, or "
            raise TargetError(
                f"{target.url}: with the new files the array {path} would {what}{why}; the form of an array that is "
                f"stored stays: {name}overwrite=True combines all files anew, or combine the new ones to a store of "
                "their own"
            )


def list_meanings(before: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    """Return the names of the attributes that say what numbers mean, and differ.

    >>> list_meanings({"scale_factor": 2.0, "units": "K"}, {"units": "degC"})
    {'scale_factor'}
    """
    names = {*PACKING, *(TIMES if is_time(before.get("units")) else ())}
    return names & set(list_differing_parts(before, now))


def list_decided(combination: Combination, paths: Collection[str]) -> str:
    """Return what options decided of some variables, each after a semicolon."""
    rows = [row for row in combination.joined.differences if row.kind == "decided" and row.variable in paths]
    return "".join(f"; {row.what}: {row.action}; in {row.files}" for row in rows)


def explain(combination: Combination, variable: JoinedVariable, parts: Set[str]) -> str:
    """Return in what the files of a variable differ, as far as that gives these parts of the array another form."""
    decided = list_decided(combination, [variable.path])
    file = combination.files[variable.source]
    if not decided and parts <= STORAGE and not file.in_store:
        return (
            f"; {file.path} comes first, and stores it otherwise: rewrite it as the others are (h5repack, nccopy), or "
            "add it at the end with sort=False"
        )
    return decided
