"""The provenance of a store: its source and settings, and details of its nodes. It is written last."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h5bound.errors import TargetError
from h5bound.files.urls import HIDDEN
from h5bound.h5py_compat import describe
from h5bound.hdf5.hierarchy import Limits
from h5bound.hdf5.type_json import text_from_json, text_to_json
from h5bound.planning.options import Settings, make_settings
from h5bound.reports.entries import Skipped, read_version
from h5bound.reports.text import name_some
from h5bound.stores.lock import MARKER
from h5bound.stores.metadata import digest
from h5bound.zarr_model.node_names import NameLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence, Set

    from h5bound.planning.scan import SourceScan
    from h5bound.stores.metadata import Document
    from h5bound.stores.target import Target

PROVENANCE_VERSION = 2
"""Version of the form of the provenance. In version 1 it was the attribute ``_h5bound`` of the root."""

PLANNING_VERSION = 3
"""Version of the rules by which the inputs decide the keys. An unfinished store of other rules is not resumed: its keys
may be chunks of other shapes, though the version of h5bound is the same between two releases.
"""


FORM_ERRORS = (AttributeError, KeyError, TypeError, ValueError, RecursionError)
"""What reading JSON of another form raises."""


@dataclass(frozen=True, slots=True)
class SourceStamp:
    """What the provenance knows of the source."""

    path: str
    """Its name, without a directory."""
    size: int
    """Size in bytes."""
    mtime_ns: int
    """Time of the last modification, in nanoseconds since 1970."""


@dataclass(frozen=True, slots=True, eq=False)
class Provenance:
    """The provenance of a store."""

    source: SourceStamp
    external: tuple[str, ...]
    """Names of the other files that were read."""
    settings: Settings
    limits: Limits
    details: Mapping[str, Mapping[str, Any]]
    """Details by node path."""
    skipped: tuple[Skipped, ...]
    documents: Mapping[str, str]
    """Digest of each metadata document by its key."""
    written: Mapping[str, int]
    """Bytes of the chunks of each array that has any, by its path."""
    name_limits: NameLimits
    """What names the target could not hold."""

    @property
    def scan_options(self) -> dict[str, Any]:
        """Options of `scan_source` with which the source has the same scan again."""
        return {"settings": self.settings, "limits": self.limits, "find_name_limits": lambda: self.name_limits}


def list_inputs(scan: SourceScan, settings: Settings, limits: Limits) -> dict[str, Any]:
    """Return the inputs that decide the bytes of every key: source, settings, limits and version."""
    files = {path: file_to_json(path, state.size, state.mtime_ns) for path, state in scan.external_states.items()}
    for origin in reversed(scan.origins):
        index, state = origin.hierarchy, origin.source.state
        name, stamps = index.file.removesuffix(f"?{HIDDEN}"), () if state is None else state.stamps
        files[origin.source.path] = file_to_json(name, index.size, index.mtime_ns, stamps=stamps)
    source = files.pop(scan.origins[0].source.path)
    external = {"external": [files[path] for path in sorted(files)]} if files else {}
    return {**describe_inputs(source, scan, settings, limits=limits), **external}


def describe_inputs(
    source: Mapping[str, Any], scan: SourceScan, settings: Settings, *, limits: Limits
) -> dict[str, Any]:
    """Return the inputs that one file and many have; `source` is an entry as `file_to_json` returns it."""
    return {
        "version": PROVENANCE_VERSION,
        "h5bound": read_version(),
        "source": source,
        "settings": settings.to_dict(),
        "limits": asdict(limits),
        **({} if scan.name_limits is None else {"name_limits": asdict(scan.name_limits)}),
    }


def file_to_json(path: str, size: int, mtime_ns: int, *, stamps: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """Return the entry of a file, without its directory, which is private."""
    entry = {"path": text_to_json(Path(path).name), "size": size, "mtime_ns": mtime_ns}
    return {**entry, "stamps": dict(stamps)} if stamps else entry


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Return the hash of the inputs of a conversion."""
    text = json.dumps([PLANNING_VERSION, inputs], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def describe_provenance(
    inputs: Mapping[str, Any],
    scan: SourceScan,
    skipped: Iterable[Skipped],
    *,
    documents: Iterable[tuple[str, Document]],
    written: Mapping[str, int],
) -> dict[str, Any]:
    """Return the provenance as JSON, with the digests of all metadata documents, and the bytes of arrays by path."""
    return {
        **inputs,
        "skipped": [skipped_to_json(item) for item in skipped],
        "details": list_details(scan),
        "documents": {key: digest(document) for key, document in documents},
        "written": written,
    }


def list_details(scan: SourceScan) -> dict[str, Any]:
    """Return the details of the nodes by their paths in the store."""
    return {scan.targets[path]: details for path, details in scan.details.items()}


def check_details(target: Target, recorded: Provenance, scan: SourceScan) -> None:
    """Raise TargetError if the details of a node are not those that the plan has."""
    planned = json.loads(json.dumps(list_details(scan)))
    for path in sorted({*planned, *recorded.details}):
        if planned.get(path, {}) != recorded.details.get(path, {}):
            raise TargetError(
                f"{target.url}: the store is complete, but the details of {path or '/'} in {target.provenance_key} "
                "were changed by another program; overwrite=True replaces it"
            )


def skipped_to_json(item: Skipped) -> dict[str, Any]:
    """Return the entry of a skipped object or attribute."""
    return {**item.to_dict(), "path": text_to_json(item.path)}


def parse_provenance(target: Target, provenance: Mapping[str, Any]) -> Provenance:
    """Return the provenance of a store from its JSON. Raise TargetError if it is damaged or of another version."""
    try:
        check_form(provenance)
        return Provenance(
            source=stamp_from_json(provenance["source"]),
            external=tuple(stamp_from_json(entry).path for entry in provenance.get("external", [])),
            settings=settings_from_json(provenance["settings"], target.zarr_format),
            limits=Limits(**provenance["limits"]),
            details=provenance["details"],
            skipped=tuple(map(skipped_from_json, provenance["skipped"])),
            documents=provenance["documents"],
            written=provenance["written"],
            name_limits=name_limits_from_json(provenance.get("name_limits", {})),
        )
    except FORM_ERRORS as error:
        raise unusable(target, error) from error


def describe_other_source(provenance: Provenance, scan: SourceScan) -> str:
    """Return the sentence that a store was made from another file, or with others than are read; "" if it was not.

    A file is the same if it has the size, and the name or time.
    """
    there, here = provenance.source, scan.hierarchy
    if there.size == here.size and (there.mtime_ns == here.mtime_ns or there.path == Path(here.file).name):
        return describe_other_files(set(provenance.external), {Path(path).name for path in scan.list_external_files()})
    then, now = (f"{file.size:,} bytes of {format_time(file.mtime_ns)}" for file in (there, here))
    return f"the store was made from {there.path!r}, {then}; {here.file} has {now}: another file, or changed"


def describe_other_files(there: Set[str], here: Set[str]) -> str:
    """Return the sentence that a store has the data of other external files than are read; "" if of the same.

    >>> describe_other_files(set(), {"b.h5"})
    'the store has no data of b.h5: leave out allow_external'
    """
    if missing := sorted(there - here):
        return f"the store has data of {name_some(missing)}: allow_external=DIRECTORY reads it"
    if more := sorted(here - there):
        return f"the store has no data of {name_some(more)}: leave out allow_external"
    return ""


def format_time(ns: int) -> str:
    """Return a time in nanoseconds since 1970 as text.

    >>> format_time(1_700_000_000_000_000_000), format_time(0)
    ('2023-11-14 22:13:20 UTC', 'unknown time')
    """
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y-%m-%d %H:%M:%S} UTC" if ns else "unknown time"


def unusable(target: Target, error: Exception) -> TargetError:
    """Return the error for a provenance that cannot be used."""
    return TargetError(
        f"{target.url}: the provenance in {target.provenance_key} cannot be used ({describe(error)}); "
        "convert again with overwrite=True"
    )


def read_provenance(target: Target) -> Mapping[str, Any]:
    """Return the provenance as JSON; raise TargetError unless the target is a complete store of h5bound."""
    marker = target.keys.read(MARKER)
    key, attributes = ("zarr.json", "zarr.json") if target.zarr_format == 3 else (".zgroup", ".zattrs")
    document = target.keys.read(key)
    if marker is not None:
        raise TargetError(
            f"{target.url}: this is an unfinished conversion; convert again with resume=True or overwrite=True"
        )
    if document is None:
        reason = "the path is missing or empty" if target.keys.is_empty() else f"{key} is missing"
        raise TargetError(f"{target.url}: no Zarr store of format {target.zarr_format}: {reason}")
    try:
        provenance = target.read_provenance()
        if provenance is not None:
            return dict(provenance)
    except FORM_ERRORS as error:
        raise unusable(target, error) from error
    if has_version_1(target.keys.read(attributes)):
        raise TargetError(
            f"{target.url}: an older h5bound wrote this store, with its provenance in the attribute _h5bound, which "
            "this one does not read; convert again with overwrite=True"
        )
    raise TargetError(f"{target.url}: this is not a store that h5bound wrote, so its source is not known")


def has_version_1(document: bytes | None) -> bool:
    """Return whether the attributes of the root hold a provenance of version 1."""
    try:
        content = json.loads(document or b"{}")
        return bool(content.get("attributes", content)["_h5bound"]["version"] == 1)
    except FORM_ERRORS:
        return False


def check_form(provenance: Mapping[str, Any]) -> None:
    """Raise ValueError for the provenance of another version, TypeError if limits or details have another form."""
    version, limits, details = (provenance[name] for name in ("version", "limits", "details"))
    if version != PROVENANCE_VERSION:
        raise ValueError(f"it has version {version!r}, and this h5bound reads version {PROVENANCE_VERSION}")
    if not all(type(value) is int for value in limits.values()):
        raise TypeError(f"not limits of a conversion: {limits}")
    if not isinstance(details, dict) or not all(isinstance(item, dict) for item in details.values()):
        raise TypeError(f"not details of nodes: {details}")
    if not isinstance(provenance["skipped"], list):
        raise TypeError(f"not a list of what was skipped: {provenance['skipped']}")
    for name in ("documents", "written"):
        if not isinstance(provenance[name], dict):
            raise TypeError(f"not {name} by their paths: {provenance[name]}")


def stamp_from_json(json: Any) -> SourceStamp:
    """Return the source from its entry; raise TypeError if it is not one."""
    path, size, mtime_ns = text_from_json(json["path"]), json["size"], json["mtime_ns"]
    if not isinstance(path, str) or type(size) is not int or type(mtime_ns) is not int or not 0 <= mtime_ns < 2**63:
        raise TypeError(f"not a source: {json}")
    return SourceStamp(path, size, mtime_ns)


def settings_from_json(json: Any, zarr_format: int) -> Settings:
    """Return the settings; raise ValueError if `convert` does not accept them, or they are for another format."""
    chunks, shards = dict(json["chunks"]), dict(json["shards"])
    settings = make_settings(**{**json, "chunks": chunks, "shards": shards or None})
    globs = (*settings.include, *settings.exclude, *chunks, *shards)
    same = settings.to_dict() == json and settings.zarr_format == zarr_format
    if not same or not all(isinstance(glob, str) for glob in globs):
        raise ValueError(f"not settings of a conversion: {json}")
    return settings


def name_limits_from_json(json: Any) -> NameLimits:
    """Return the limits of names; raise TypeError if they are not some."""
    limits = NameLimits(**json)
    if any(type(value) is not type(getattr(NameLimits(), name)) for name, value in asdict(limits).items()):
        raise TypeError(f"not limits of names: {json}")
    return limits


def skipped_from_json(json: Any) -> Skipped:
    """Return a skipped object or attribute from its entry; raise TypeError if it is not an entry."""
    path, reason, attribute = text_from_json(json["path"]), json["reason"], json.get("attribute")
    asked = json.get("asked", False)
    if not isinstance(reason, str) or not isinstance(attribute, str | None) or not isinstance(asked, bool):
        raise TypeError(f"not an entry of something skipped: {json}")
    return Skipped(path, reason, attribute, asked=asked)
