"""A store that was combined before, as its provenance and its metadata documents describe it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.kept_coordinates import read_values
from h5bound.combining.rule_options import DEFAULTS
from h5bound.combining.scan_form import make_schema
from h5bound.conversion.other_inputs import list_differing
from h5bound.conversion.provenance import FORM_ERRORS, unusable
from h5bound.conversion.resume import APPENDING, find_state, has_root
from h5bound.errors import TargetError
from h5bound.planning.selection import matches
from h5bound.stores.keys import reaching
from h5bound.stores.lock import MARKER, parse_marker
from h5bound.stores.metadata import CONSOLIDATED, bind
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import zarr
    from numpy.typing import NDArray

    from h5bound.chunk_grid import Shape
    from h5bound.combining.combined_plan import Grids
    from h5bound.combining.file_scan import FileScan, VariableSchema
    from h5bound.combining.joined import Joined, Rules
    from h5bound.planning.options import Settings
    from h5bound.stores.metadata import Document
    from h5bound.stores.target import Target

DECIDING = ("overlap", "differing", "attributes", "unpack", "promote", "missing")
"""Rules that say what to do where files differ, and by default refuse that."""

DIMENSIONS = "_ARRAY_DIMENSIONS"
"""Attribute of format 2 that no file has."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Extent:
    """Where the elements of each file are along the axis of a variable, in the order of the files."""

    starts: NDArray[np.int64]
    """Where they begin, and the end of the last ones."""
    skips: NDArray[np.int64]
    """Elements of each file that were left out before."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StoredVariable:
    """One variable of a store that was combined."""

    target: str
    """Path in the store."""
    schema: VariableSchema
    axis: int | None
    """The axis along which files are joined; None for a variable that is taken from one file."""
    extent: Extent | None
    """Where the elements of each file are; None without an axis."""
    source: int
    """Number of the file that attributes come from; without an axis the values too."""
    shape: Shape
    digest: bytes | None
    """Digest of the values of a variable without an axis, if it is known."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FilesRecord:
    """Which files a store has, and which elements are those of each."""

    files: Sequence[Mapping[str, Any]]
    """The entries of the files in the provenance, in their order."""
    variables: Mapping[str, StoredVariable]
    """By path in the files."""
    groups: Mapping[str, str]
    """Paths of the groups in the store, by those in the files."""
    left_out: frozenset[str]
    """Paths of the variables that were left out since they differ."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> FilesRecord:
        """Return the record in a provenance document, or in a marker. Raise one of FORM_ERRORS if there is none."""
        joined, files = document["joined"], document["combined"]["files"]
        count = len(files)
        extents = [
            Extent(
                starts=np.array(item["starts"], np.int64),
                skips=np.array(item.get("skips", np.zeros(count)), np.int64),
            )
            for item in joined["extents"]
        ]
        if any(item.starts.shape != (count + 1,) or item.skips.shape != (count,) for item in extents):
            raise ValueError("its files and their elements do not fit together")
        variables = {
            path: StoredVariable(
                target=item["target"],
                schema=make_schema(item["schema"]),
                axis=item["axis"],
                extent=None if item["axis"] is None else extents[item["extent"]],
                source=item["source"],
                shape=tuple(item["shape"]),
                digest=None if item["digest"] is None else bytes.fromhex(item["digest"]),
            )
            for path, item in joined["variables"].items()
        }
        return cls(files=files, variables=variables, groups=joined["groups"], left_out=frozenset(joined["left_out"]))


def describe_joined(
    joined: Joined, files: Sequence[FileScan], groups: Mapping[str, str], *, left_out: frozenset[str]
) -> dict[str, Any]:
    """Return the JSON of what `FilesRecord` holds beside the files. `groups` has their paths in the store.

    `left_out` are the variables that were left out before, of which the records of files in the store say nothing.
    """
    extents: dict[str, int] = {}
    variables = {}
    for path, variable in joined.variables.items():
        skips = {"skips": variable.skips.tolist()} if variable.skips.any() else {}
        text = "" if variable.axis is None else json.dumps({"starts": variable.starts.tolist(), **skips})
        digest = files[variable.source].variables[path].digest if variable.axis is None else None
        variables[path] = {
            "target": variable.target,
            "axis": variable.axis,
            "extent": None if variable.axis is None else extents.setdefault(text, len(extents)),
            "source": variable.source,
            "shape": list(variable.shape),
            "digest": None if digest is None else digest.hex(),
            "schema": asdict(variable.schema),
        }
    every = {path for file in files for path in file.variables}
    return {
        "extents": [json.loads(text) for text in extents],
        "variables": variables,
        "groups": dict(groups),
        "left_out": sorted((every | left_out) - variables.keys()),
    }


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CombinedStore:
    """A store that was combined before."""

    target: Target
    record: FilesRecord
    """What readers see."""
    attempted: FilesRecord | None
    """What a run that did not come to its end would have made of it; None if there was none."""
    is_whole: bool
    """Whether no run did not come to its end."""
    rules: Mapping[str, Any]
    settings: Mapping[str, Any]
    written: Mapping[str, int]
    """Bytes of the chunks of each array, by its path in the store."""
    documents: Mapping[str, Document]
    """Metadata documents of its arrays, by their paths, as readers see them."""
    attributes: Mapping[str, Mapping[str, Any]]
    """Attributes of its nodes, by their paths."""
    details: Mapping[str, Mapping[str, Any]]
    """What its nodes do not say of the files, by their paths."""
    skipped: Sequence[Mapping[str, Any]]
    """Entries of what it does not have of the files."""
    tables: Sequence[Mapping[str, Any]]
    """Entries of the attributes that are kept by file."""
    coordinates: Mapping[str, NDArray[Any]]
    """Values of coordinates of small chunks, by path in the files."""

    def open(self, path: str, shape: Shape) -> zarr.Array[Any]:
        """Return an array.

        Readers see another shape if a run was killed between its last two steps, when all chunks were there.
        """
        with quiet_zarr():
            return bind({**self.documents[path], "shape": list(shape)}, self.target.store, path)


def find_combined(target: Target, *, rules: Rules, settings: Settings) -> CombinedStore | None:
    """Return what is known of the store that files are to be added to; None if there is none yet.

    Raise TargetError if it is another store, or was combined with options that would have made another one.
    """
    with reaching(target.url):
        target.check_free("")
        before = read_combined(target)
    if before is None:
        return None
    now = json.loads(json.dumps({"settings": settings.to_dict(), "rules": asdict(rules)}))
    parts = list(dict.fromkeys(list_differing(find_options(before, now), now)))
    if parts:
        raise TargetError(
            f"{target.url}: the store was combined with {'; '.join(parts)}; pass the same options, or overwrite=True "
            "combines all files anew"
        )
    return before


def find_options(store: CombinedStore, now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a store, with those of `now` in their place that would have made the same one.

    Where a rule refuses what differs, nothing did, so there was nothing to decide. A glob that matches nothing of the
    store would have left out nothing.
    """
    rules, settings = {**store.rules}, {**store.settings}
    rules["sort"] = now["rules"]["sort"]  # the order is compared itself
    rules |= {name: now["rules"][name] for name in DECIDING if rules.get(name) == DEFAULTS[name]}
    before, given = set(settings["exclude"]), now["settings"]["exclude"]
    if before <= {*given} and not any(matches(path, glob) for glob in {*given} - before for path in list_paths(store)):
        settings["exclude"] = given
    return {"settings": settings, "rules": rules}


def list_paths(store: CombinedStore) -> Iterator[str]:
    """Yield the paths in the files of all that a store has, or leaves out since it differs, links too."""
    yield from store.record.variables
    yield from store.record.left_out
    for path, target in store.record.groups.items():
        yield path
        yield from (f"{path.rstrip('/')}/{link['name']}" for link in store.details.get(target, {}).get("links", ()))


def read_combined(target: Target) -> CombinedStore | None:
    """Return what is known of a store that was combined before; None if there is none yet, or its first run was killed.

    Raise TargetError if it is another store.
    """
    marker = target.keys.read(MARKER)
    state = find_state(target, marker)
    if state == "condemned" and has_root(target):
        state = "appending"  # killed before the marker said what is done: the root's documents are deleted first
    if state in ("nothing", "unfinished", "condemned"):
        return None
    if state == "other":
        raise TargetError(f"{target.url}: no store, so nothing can be appended; choose another target")
    try:
        provenance = target.read_provenance()
        if "combined" not in provenance:
            raise TargetError(f"{target.url}: this store was not combined from files, so none can be added")
        record, attempt = FilesRecord.of(provenance), parse_marker(marker)
        name = ".zmetadata" if target.zarr_format == 2 else "zarr.json"
        documents, attributes = list_nodes({name: json.loads(target.keys.read(name) or b"{}")}, target.zarr_format)
        return CombinedStore(
            target=target,
            record=record,
            attempted=read_attempt(attempt),
            is_whole=state == "store",
            rules=provenance["combined"]["rules"],
            settings=provenance["settings"],
            written=provenance["written"],
            documents=documents,
            attributes=attributes,
            details=provenance["details"],
            skipped=provenance["skipped"],
            tables=provenance.get("attributes", ()),
            coordinates={
                path: read_values(text, np.dtype(record.variables[path].schema.dtype))
                for path, text in provenance.get("coordinates", {}).items()
            },
        )
    except FORM_ERRORS as error:
        raise unusable(target, error) from error


def read_attempt(marker: Mapping[str, Any]) -> FilesRecord | None:
    """Return the record of the files that an interrupted run was adding to a store, from its marker."""
    if APPENDING not in marker:  # it was killed before it wrote anything else
        return None
    try:
        return FilesRecord.of(marker)
    except FORM_ERRORS:  # anything may have been written
        return FilesRecord(files=(), variables={}, groups={}, left_out=frozenset())


def list_nodes(root: Mapping[str, Document], zarr_format: int) -> tuple[dict[str, Document], dict[str, dict[str, Any]]]:
    """Return the metadata documents of arrays, and the attributes of nodes, by path.

    `root` has the document of the root with the consolidated metadata of all, by its key.
    """
    if zarr_format == 2:
        entries: dict[str, Document] = root[".zmetadata"]["metadata"]
        documents, attributes = (
            {key.removesuffix(name).rstrip("/"): entry for key, entry in entries.items() if key.endswith(name)}
            for name in (".zarray", ".zattrs")
        )
        for own in attributes.values():
            own.pop(DIMENSIONS, None)
        return documents, attributes
    nodes = {"": root["zarr.json"], **root["zarr.json"][CONSOLIDATED]["metadata"]}
    documents = {path: node for path, node in nodes.items() if node["node_type"] == "array"}
    return documents, {path: node.get("attributes", {}) for path, node in nodes.items()}


def read_grid(document: Document) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the chunks and shards of an array's metadata document."""
    if "chunks" in document:
        return tuple(document["chunks"]), None
    outer = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
    for codec in document["codecs"]:
        if codec["name"] == "sharding_indexed":
            return tuple(codec["configuration"]["chunk_shape"]), outer
    return outer, None


def find_grids(target: Target, store: CombinedStore | None) -> Grids:
    """Return the chunks and shards of the arrays that a store has, by their paths in it.

    Without a `store` to append to, those with which a complete one at the target was planned: it may be resumed.
    """
    if store is not None:
        return {path: read_grid(document) for path, document in store.documents.items()}
    with suppress(*FORM_ERRORS):
        grids = target.read_provenance()["combined"]["grids"]
        return {path: (tuple(chunks), shards and tuple(shards)) for path, (chunks, shards) in grids.items()}
    return {}
