"""The mark of a complete store, read back: what the conversion was asked for, and what it says of the nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h5bound.errors import TargetError
from h5bound.index import describe
from h5bound.report import Skipped
from h5bound.settings import Limits, Settings, make_settings, settings_of
from h5bound.store import MARK_VERSION
from h5bound.target import read_mark
from h5bound.typetext import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h5bound.target import Target


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """What ``_h5bound`` of the root says."""

    settings: Settings
    limits: Limits
    details: Mapping[str, Mapping[str, Any]]
    """by the path of the node"""
    skipped: tuple[Skipped, ...]


def parse_mark(target: Target) -> Mark:
    """Give the mark of a store.

    Raises
    ------
    TargetError
        Nothing is there, it is unfinished, h5bound did not write it, or the mark is damaged or of another version.
    """
    document = "zarr.json" if target.zarr_format == 3 else ".zattrs"
    try:
        mark = read_mark(target)
        check_version(mark["version"])
        settings = parse_settings(mark["settings"], target.zarr_format)
        skipped = tuple(map(parse_skipped, mark["skipped"]))
        return Mark(settings, parse_limits(mark["limits"]), parse_details(mark["details"]), skipped)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise TargetError(
            f"{target.url}: the mark _h5bound in {document} cannot be used ({describe(error)}); "
            "convert again with overwrite=True"
        ) from error


def check_version(version: object) -> None:
    """Refuse a mark of another h5bound.

    Raises
    ------
    ValueError
        It has another version.
    """
    if version != MARK_VERSION:
        raise ValueError(f"it has version {version!r}, and this h5bound reads version {MARK_VERSION}")


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
    path, reason, attribute = read_text(held["path"]), held["reason"], held.get("attribute")
    if not isinstance(reason, str) or not isinstance(attribute, str | None):
        raise TypeError(f"no entry of what was left out: {held}")
    return Skipped(path, reason, attribute)
