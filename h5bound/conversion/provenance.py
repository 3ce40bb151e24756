"""The mark of a complete store: of what and how it was made, and what it says of the nodes. Written, and read back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h5bound.errors import TargetError
from h5bound.files.urls import HIDDEN
from h5bound.h5py_compat import describe
from h5bound.hdf5.datatypes import text_from_json, text_to_json
from h5bound.hdf5.hierarchy import Limits
from h5bound.planning.options import Settings, make_settings, settings_of
from h5bound.reports import Skipped
from h5bound.stores.target import MARKER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h5bound.planning.scan import SourceScan
    from h5bound.stores.target import Target


PROVENANCE_VERSION = 1
"""The version of what stands under ``_h5bound`` of the root."""

PROVENANCE_KEYS = frozenset(
    {"version", "h5bound", "source", "external", "settings", "limits", "complete", "details", "skipped"}
)
"""What the mark adds to ``_h5bound`` of the root."""


@dataclass(frozen=True, slots=True, eq=False)
class Provenance:
    """What ``_h5bound`` of the root says."""

    settings: Settings
    limits: Limits
    details: Mapping[str, Mapping[str, Any]]
    """by the path of the node"""
    skipped: tuple[Skipped, ...]


def identify(scan: SourceScan, settings: Settings, limits: Limits) -> dict[str, Any]:
    """Give what tells one conversion from another: source, settings and version."""
    files = {path: spell_file(path, found.size, found.mtime_ns) for path, found in scan.external_states.items()}
    for origin in reversed(scan.origins):
        index, state = origin.hierarchy, origin.source.identity
        entry = spell_file(index.file.removesuffix(f"?{HIDDEN}"), index.size, index.mtime_ns)
        stamps = {"stamps": dict(state.stamps)} if state is not None and state.stamps else {}
        files[origin.source.path] = {**entry, **stamps}
    source = files.pop(scan.origins[0].source.path)
    return {
        "version": PROVENANCE_VERSION,
        "h5bound": version("h5bound"),
        "source": source,
        "settings": settings.to_dict(),
        "limits": asdict(limits),
        **({"external": [files[path] for path in sorted(files)]} if files else {}),
    }


def spell_file(path: str, size: int, mtime_ns: int) -> dict[str, Any]:
    """Give the entry of the mark for a file; where it was is nobody's business."""
    return {"path": text_to_json(Path(path).name), "size": size, "mtime_ns": mtime_ns}


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Give a short name for an identity."""
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=16).hexdigest()


def spell_skipped(item: Skipped) -> dict[str, Any]:
    """Give the entry of the mark for what was left out."""
    return {**item.to_dict(), "path": text_to_json(item.path)}


def parse_provenance(target: Target) -> Provenance:
    """Give the mark of a store.

    Raises
    ------
    TargetError
        Nothing is there, it is unfinished, h5bound did not write it, or the mark is damaged or of another version.
    """
    document = "zarr.json" if target.zarr_format == 3 else ".zattrs"
    try:
        provenance = read_provenance_text(target)
        check_version(provenance["version"])
        settings = parse_settings(provenance["settings"], target.zarr_format)
        skipped = tuple(map(parse_skipped, provenance["skipped"]))
        return Provenance(settings, parse_limits(provenance["limits"]), parse_details(provenance["details"]), skipped)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise TargetError(
            f"{target.url}: the mark _h5bound in {document} cannot be used ({describe(error)}); "
            "convert again with overwrite=True"
        ) from error


def read_provenance_text(target: Target) -> Mapping[str, Any]:
    """Give the ``_h5bound`` attribute of a complete store's root.

    Raises
    ------
    TargetError
        Nothing is there, it is unfinished, or h5bound did not write it.
    """
    marker = target.read(MARKER)
    document = target.read("zarr.json" if target.zarr_format == 3 else ".zattrs")
    if marker is not None:
        raise TargetError(f"{target.url}: an unfinished conversion; convert again with resume or overwrite")
    if document is None:
        raise TargetError(f"{target.url}: no Zarr store of format {target.zarr_format} there")
    attributes = json.loads(document)
    provenance = (attributes.get("attributes", {}) if target.zarr_format == 3 else attributes).get("_h5bound", {})
    if not provenance.get("complete"):
        raise TargetError(f"{target.url}: not a store that h5bound wrote, so its source is not known")
    return dict(provenance)


def check_version(version: object) -> None:
    """Refuse a mark of another h5bound.

    Raises
    ------
    ValueError
        It has another version.
    """
    if version != PROVENANCE_VERSION:
        raise ValueError(f"it has version {version!r}, and this h5bound reads version {PROVENANCE_VERSION}")


def parse_settings(held: Any, zarr_format: int) -> Settings:
    """Give the settings.

    Raises
    ------
    ValueError
        `convert` has no such settings, or they are those of a store of another format.
    """
    settings = settings_of(held)
    made = make_settings(
        zarr_format=settings.zarr_format,
        codecs=settings.codecs,
        chunks=dict(settings.chunks),
        shards=dict(settings.shards) or None,
        include=settings.include,
        exclude=settings.exclude,
    )
    globs = (*settings.include, *settings.exclude, *dict(settings.chunks), *dict(settings.shards))
    same = made == settings and settings.to_dict() == held and settings.zarr_format == zarr_format
    if not same or not all(isinstance(glob, str) for glob in globs):
        raise ValueError(f"no settings of a conversion: {held}")
    return settings


def parse_limits(held: Any) -> Limits:
    """Give the limits.

    Raises
    ------
    TypeError
        They are no integers.
    """
    if not all(type(value) is int for value in held.values()):
        raise TypeError(f"no limits of a conversion: {held}")
    return Limits(**held)


def parse_details(held: Any) -> dict[str, dict[str, Any]]:
    """Give the details of the nodes.

    Raises
    ------
    TypeError
        They are no objects.
    """
    if not isinstance(held, dict) or not all(isinstance(details, dict) for details in held.values()):
        raise TypeError(f"no details of nodes: {held}")
    return held


def parse_skipped(held: Any) -> Skipped:
    """Give an entry of what was left out.

    Raises
    ------
    TypeError
        It is none.
    """
    path, reason, attribute = text_from_json(held["path"]), held["reason"], held.get("attribute")
    if not isinstance(reason, str) or not isinstance(attribute, str | None):
        raise TypeError(f"no entry of what was left out: {held}")
    return Skipped(path, reason, attribute)
