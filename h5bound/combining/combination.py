"""Many files as one store: scanned, joined by the rules, and planned. Nothing is written."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.buffers import same_bits
from h5bound.chunk_grid import count_chunks, plan_auto_chunks, region_of
from h5bound.combining.combined_plan import plan_combined
from h5bound.combining.combined_store import describe_joined
from h5bound.combining.differences import FileNames, refuse_differences
from h5bound.combining.joined_scan import find_template, join_scans, list_file_chunks
from h5bound.combining.kept_coordinates import can_order, keep_coordinate
from h5bound.combining.rules import join_files
from h5bound.combining.variables import DIFFERING
from h5bound.conversion.provenance import describe_inputs, file_to_json
from h5bound.errors import OptionError, SourceChangedError, UnsupportedError
from h5bound.planning.array_options import check_applied
from h5bound.reader.many_files import MAX_OPEN, ManyFiles
from h5bound.reports.many_files import Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from h5bound.buffers import Region
    from h5bound.combining.combined_plan import Grids
    from h5bound.combining.combined_store import CombinedStore
    from h5bound.combining.file_scan import FileScan
    from h5bound.combining.join_plan import JoinPlan
    from h5bound.combining.joined import Joined, Rules
    from h5bound.combining.scan_one import ScanOptions
    from h5bound.combining.stored_chunks import FileChunks
    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.store_plan import StorePlan
    from h5bound.reader.source import H5Source
    from h5bound.zarr_model.dtypes import ZarrType

    Chunks = Mapping[str, Mapping[int, FileChunks]]
    Split = Callable[[SourceScan, Chunks, Sequence[FileScan]], tuple[SourceScan, Chunks]]
    Stored = tuple[CombinedStore | None, Mapping[str, ZarrType]]
    Read = Callable[[Region], Any]
    Convert = Callable[[Any], Any]


COMPARED_NBYTES = 2**26
"""Bytes of values that are compared at once."""

DECIDED_LATER = re.compile(r"\b(sort|overlap|attributes|missing)=")
"""Options that may decide what differs when files are added, since they change no array that a store has."""

COMPARABLE = ("plain", "string", "bytes")
"""Forms of values that are compared with those of a store."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Combination:
    """Many files as one store."""

    files: Sequence[FileScan]
    """The files in the order in which they are joined."""
    rules: Rules
    joined: Joined
    scan: SourceScan
    plan: StorePlan
    joins: Sequence[JoinPlan]
    """The plans of the joined arrays, which come first in `plan`."""
    inputs: dict[str, Any]
    """What decides the bytes of every key, as JSON."""
    left_out: frozenset[str]
    """Variables that were left out of the files that are not read."""

    @property
    def tables(self) -> dict[str, Any]:
        """What the provenance has of the files: which elements are theirs, attributes that differ, and coordinates."""
        tables = [
            {"path": table.path, "name": table.name, "values": list(table.values), "numbers": table.numbers.tolist()}
            for table in self.joined.tables
        ]
        groups = {group.path: group.target for group in self.scan.groups}
        nodes = {join.array.path: join.array.node for join in self.joins}
        coordinates = {
            path: text
            for path, item in self.joined.variables.items()
            if path in nodes and can_order(path, item.schema, len(item.shape), rules=self.rules)
            if (text := keep_coordinate(item, nodes[path], self.files)) is not None
        }
        return {
            "joined": describe_joined(self.joined, self.files, groups, left_out=self.left_out),
            **({"attributes": tables} if tables else {}),
            **({"coordinates": coordinates} if coordinates else {}),
        }


def plan_combination(
    sources: Sequence[H5Source],
    scans: Sequence[FileScan],
    *,
    rules: Rules,
    options: ScanOptions,
    grids: Grids,
    window: int,
    threads: int,
    store: CombinedStore | None = None,
    max_open: int = MAX_OPEN,
    split: Split | None = None,
) -> Combination:
    """Return the plan of a store. `grids` are chunks and shards of arrays that it has already, by path in the store.

    `split` returns the scan of all files, and what each stores of its variables, with other chunks. `store` has the
    files that are not read. At most `max_open` files are open at a time.

    Raise OptionError or UnsupportedError, with all that stands against it, if the rules refuse the files.
    """
    paths, settings, limits = list_paths(scans), options.settings, options.limits
    if not any(scan.variables for scan in scans):
        check_applied(scan_again(sources[0], scans[0], options), settings, paths)
    with explaining_options(store):
        joined = join_files(scans, rules)
    files, sources = [scans[number] for number in joined.order], [sources[number] for number in joined.order]
    templates = scan_templates(joined, files, sources=sources, options=options)
    types = {item.record.path: item.type for scan in templates.values() for item in scan.datasets}
    joined = compare_values(joined, rules, files, sources=sources, stored=(store, types))
    joined = joined if store is None else restore_skips(joined, files, store)
    many = ManyFiles(sources, max_open=max_open)
    scan = join_scans(joined, files, templates=templates, many=many, zarr_format=settings.zarr_format)
    before = store if any(file.in_store for file in files) else None
    scan = scan if before is None else restore_details(scan, joined, before)
    check_applied(scan, settings, paths)
    chunks: Chunks = {
        path: list_file_chunks(variable, files)
        for path, variable in joined.variables.items()
        if variable.axis is not None
    }
    if split is not None:
        scan, chunks = split(scan, chunks, files)
    plan, joins = plan_combined(scan, chunks, settings, limits=limits, grids=grids, window=window, threads=threads)
    return Combination(
        files=files,
        rules=rules,
        joined=joined,
        scan=scan,
        plan=plan,
        joins=joins,
        inputs=list_combined_inputs(files, rules=rules, settings=settings, limits=limits, grids=grids, scan=scan),
        left_out=frozenset() if before is None else before.record.left_out,
    )


@contextmanager
def explaining_options(store: CombinedStore | None) -> Iterator[None]:
    """Add to the refusal of files that are added to a store what cannot be decided any more: the form of its arrays."""
    try:
        yield
    except (OptionError, UnsupportedError) as error:
        differences: Sequence[Difference] = getattr(error, "differences", ())
        if store is not None and not all(DECIDED_LATER.search(item.action) for item in differences):
            error.add_note(
                f"the arrays of {store.target.url} stay as they are: what would change them needs overwrite=True"
            )
        raise


def list_paths(scans: Sequence[FileScan]) -> list[str]:
    """Return the paths of all that is in any file, also of what is left out."""
    skipped = {item for scan in scans for item in scan.skipped if item.attribute is None}
    found = [path for scan in scans for paths in (scan.groups, scan.variables) for path in paths]
    return list(dict.fromkeys([*found, *(item.path for item in skipped)]))


def scan_templates(
    joined: Joined, files: Sequence[FileScan], *, sources: Sequence[H5Source], options: ScanOptions
) -> dict[int, SourceScan]:
    """Return the whole scans of the first file that is read, and of those that say how a variable is read."""
    first = next(number for number, file in enumerate(files) if not file.in_store)
    needed = sorted({first, *(find_template(variable, files) for variable in joined.variables.values())})
    return {number: scan_again(sources[number], files[number], options) for number in needed}


def scan_again(source: H5Source, file: FileScan, options: ScanOptions) -> SourceScan:
    """Return the whole scan of one of the files. Raise SourceChangedError if it changed since its record was made."""
    if file.state is not None and source.state != file.state:
        raise SourceChangedError(f"{file.path}: the file changed while the files were combined; combine again")
    with source.opened() as opened:
        return options.scan(source, opened)


def compare_values(
    joined: Joined, rules: Rules, files: Sequence[FileScan], *, sources: Sequence[H5Source], stored: Stored
) -> Joined:
    """Return what the files become together once the large variables that all should have alike are compared.

    `stored` is the store that files are added to, and the types of variables.

    Raise OptionError, with all that differ in one table, if the rules refuse that.
    """
    if rules.differing == "first" or not joined.to_compare:
        return joined
    names = FileNames([file.path for file in files])
    rows = []
    for path, numbers in joined.to_compare.items():
        source = joined.variables[path].source
        others = [number for number in numbers.tolist() if not files[number].in_store]
        if files[source].in_store:
            different = find_different_from_store(path, others, files[source], sources=sources, stored=stored)
        else:
            different = find_different(path, others, sources[source], sources=sources)
        if different:
            kind, action = ("decided", "left out") if rules.differing == "drop" else ("refused", DIFFERING)
            what, where = "its values differ", names.describe(different)
            rows.append(Difference(kind=kind, variable=path, what=what, files=where, action=action))  # type: ignore[arg-type]
    if rows and rules.differing == "refuse":
        raise refuse_differences(rows)
    left = {path: item for path, item in joined.variables.items() if path not in {row.variable for row in rows}}
    return replace(joined, variables=left, differences=(*joined.differences, *rows))


def have_same_values(path: str, other: H5Source, read: Read, convert: Convert = lambda block: block) -> bool:
    """Return whether a dataset of a file has the values that `read` returns of regions, bit for bit.

    `convert` brings those of the file to their form.
    """
    with other.opened() as opened:
        dataset = opened.open_dataset(path)
        if dataset.shape is None:
            return True
        shape, itemsize = dataset.shape or (), dataset.dtype.itemsize
        chunks = plan_auto_chunks(shape, itemsize, COMPARED_NBYTES)
        regions = (region_of(coords, shape, chunks) for coords in np.ndindex(count_chunks(shape, chunks)))
        return all(same_bits(read(region), convert(opened.read(path, region))) for region in regions)


def find_different(path: str, numbers: Sequence[int], source: H5Source, *, sources: Sequence[H5Source]) -> list[int]:
    """Return the numbers of the files in which a dataset has not the values of that of a source."""
    with source.opened() as opened:
        read = partial(opened.read, path)
        return [number for number in numbers if not have_same_values(path, sources[number], read)]


def find_different_from_store(
    path: str, numbers: Sequence[int], file: FileScan, *, sources: Sequence[H5Source], stored: Stored
) -> list[int]:
    """Return the numbers of the files in which a dataset has not the values of the store that files are added to.

    Raise OptionError for values whose form in the store is another one; `file` is one that has them.
    """
    store, types = stored
    variable, zarr_type = file.variables[path], types[path]
    if store is None or variable.schema.form not in COMPARABLE:
        raise OptionError(f"{path}: its values are not compared with those of the store; name {file.path} too")
    array = store.open(variable.target, variable.shape)

    def read(region: Region) -> Any:
        block = np.asarray(array[region])
        return block.astype(zarr_type.dtype, copy=False)

    return [
        number for number in numbers if not have_same_values(path, sources[number], read, convert=zarr_type.convert)
    ]


def restore_skips(joined: Joined, files: Sequence[FileScan], store: CombinedStore) -> Joined:
    """Return what files become, with the elements that were left out of files that only the store has."""
    numbers = {place: file.number_in_store for place, file in enumerate(files) if file.number_in_store is not None}
    if not numbers:
        return joined
    variables = dict(joined.variables)
    for path, variable in variables.items():
        before = store.record.variables.get(path)
        if variable.axis is not None and before is not None and before.extent is not None:
            skips = variable.skips.copy()
            skips[list(numbers)] += before.extent.skips[list(numbers.values())]
            variables[path] = replace(variable, skips=skips)
    return replace(joined, variables=variables)


def restore_details(scan: SourceScan, joined: Joined, store: CombinedStore) -> SourceScan:
    """Return the scan with the details of the store of what is neither variable nor group: of bare dimensions."""
    paths = {target: path for path, target in scan.targets.items()}
    found = {paths.get(target, f"/{target}"): (target, details) for target, details in store.details.items()}
    found = {path: item for path, item in found.items() if path not in joined.variables and path not in joined.groups}
    return replace(
        scan,
        targets={**scan.targets, **{path: target for path, (target, _) in found.items()}},
        details={**scan.details, **{path: details for path, (_, details) in found.items()}},
    )


def list_combined_inputs(
    files: Sequence[FileScan], *, rules: Rules, settings: Settings, limits: Limits, grids: Grids, scan: SourceScan
) -> dict[str, Any]:
    """Return what decides the bytes of every key: the files, the rules, settings, limits and the version."""
    entries = [describe_state(file) for file in files]
    source = {
        "path": entries[0]["path"],
        "size": sum(entry["size"] for entry in entries),
        "mtime_ns": max(entry["mtime_ns"] for entry in entries),
    }
    return {
        **describe_inputs(source, scan, settings, limits=limits),
        "combined": {
            "rules": asdict(rules),
            "files": entries,
            "grids": {path: [list(chunks), shards and list(shards)] for path, (chunks, shards) in grids.items()},
        },
    }


def describe_state(file: FileScan) -> dict[str, Any]:
    """Return the entry of a file in the provenance, with those of the other files that hold values of it."""
    state = file.state
    if file.entry_in_store is not None:
        return dict(file.entry_in_store)
    if state is None:
        return file_to_json(file.path, 0, 0)
    entry = file_to_json(file.path, state.size, state.mtime_ns, stamps=state.stamps)
    others = sorted(file.external_states.items())
    external = [file_to_json(path, other.size, other.mtime_ns) for path, other in others]
    return {**entry, "external": external} if external else entry
