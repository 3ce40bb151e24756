"""Globs and shapes for many sources: each has to apply to one of them, and is passed on only to those it applies to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from h5bound.errors import OptionError
from h5bound.hdf5.hierarchy import Limits
from h5bound.planning.array_options import MAX_COMPARED, name_close, name_rule
from h5bound.planning.link_copies import read_objects
from h5bound.planning.options import SETTINGS, make_settings
from h5bound.planning.selection import is_selected, list_all_paths, matches
from h5bound.reader.source import H5Source
from h5bound.reports.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.planning.options import Settings, Shape

    Choice = tuple[str, str, "Shape | int | None"]  # option, glob, and the size of a rule


@dataclass(frozen=True, slots=True)
class Choices:
    """Which of the globs and rules apply to one source."""

    applied: frozenset[Choice]
    paths: tuple[str, ...]
    """Some of its paths, for messages."""
    open_ended: bool
    """Whether there may be more behind external links that are followed."""


def spread_options(sources: Sequence[Any], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each source the options that differ from `options`: without globs and rules that do not apply to it.

    Each source is opened once for that, if there are any. One that cannot be read, or without anything to convert,
    keeps all: its conversion says why it fails. So does one with external links that are followed. Raise OptionError
    if something applies to none of the sources.
    """
    settings = make_settings(**{name: options[name] for name in SETTINGS})
    asked = list_choices(settings)
    if not asked:
        return [{} for _ in sources]
    choices = [find_choices(source, options, settings) for source in sources]
    read = [item for item in choices if item is not None]
    if not any(item.open_ended for item in read):
        refuse_unused([choice for choice in asked if not any(choice in item.applied for item in read)], read)
    return [{} if item is None or item.open_ended else trim(settings, item.applied) for item in choices]


def list_choices(settings: Settings) -> list[Choice]:
    """Return all globs and rules of the settings."""
    globs = [("include", glob, None) for glob in settings.include] + [
        ("exclude", glob, None) for glob in settings.exclude
    ]
    rules = {"chunks": settings.chunks, "shards": settings.shards}
    return [*globs, *((option, glob, size) for option, pairs in rules.items() for glob, size in pairs)]


def find_choices(source: Any, options: Mapping[str, Any], settings: Settings) -> Choices | None:
    """Return what applies to a source; None if it cannot be read."""
    try:
        file = H5Source.of(source, options["storage_options"])
        with file.opened() as opened:
            hierarchy = read_objects(opened.file, settings, Limits(options["max_objects"], options["max_depth"]))
    except Exception:  # noqa: BLE001 - its conversion says why
        return None
    paths = list_all_paths(hierarchy)
    selected = [record for record in hierarchy.datasets if is_selected(record.path, settings)]
    applied = frozenset(choice for choice in list_choices(settings) if applies(choice, paths, selected))
    followed = bool(options["allow_external"]) and any(link.kind == "external" for link in hierarchy.links)
    return Choices(applied=applied, paths=tuple(paths[:MAX_COMPARED]), open_ended=followed)


def applies(choice: Choice, paths: Iterable[str], selected: Iterable[DatasetRecord]) -> bool:
    """Return whether a glob matches a path of a file, or a rule a selected dataset with as many axes as its shape."""
    option, glob, size = choice
    if option in ("include", "exclude"):
        return any(matches(path, glob) for path in paths)
    return any(
        not isinstance(size, tuple) or len(size) in list_ndims(one.dtype, 1 if one.shape is None else len(one.shape))
        for one in selected
        if matches(one.path, glob)
    )


def list_ndims(dtype: np.dtype[Any] | None, outer: int) -> set[int]:
    """Return the numbers of axes that arrays of elements of a type may have, which have `outer` axes of their own.

    >>> list_ndims(np.dtype([("m", "f4", (2, 3)), ("s", h5py.vlen_dtype("i4"))]), 1)
    {1, 3}
    """
    if dtype is None:
        return {outer}
    outer, dtype = outer + len(dtype.shape), dtype.base
    if dtype.names is not None:
        return {outer}.union(*(list_ndims(dtype[name], outer) for name in dtype.names))
    element = h5py.check_vlen_dtype(dtype)
    return {1} | list_ndims(element, 1) if isinstance(element, np.dtype) else {outer}


def refuse_unused(unused: Sequence[Choice], read: Sequence[Choices]) -> None:
    """Raise OptionError if there is something that applies to none of the sources that can be read."""
    if not unused or not read:
        return
    paths = list(dict.fromkeys(path for item in read[:10] for path in item.paths))
    where = f"any of {plural(len(read), 'file')}"
    sentences = (
        f"{name_rule(option, glob, size if glob == '*' else None)}: matches nothing in {where}{name_close(glob, paths)}"
        if not isinstance(size, tuple)
        else f"{name_rule(option, glob, size)}: no dataset that it matches in {where} has as many axes"
        for option, glob, size in unused
    )
    raise OptionError("; ".join(sentences))


def trim(settings: Settings, applied: frozenset[Choice]) -> dict[str, Any]:
    """Return the options without what does not apply; `include` as it is if nothing of it applies."""
    include = [glob for glob in settings.include if ("include", glob, None) in applied]
    return {
        "include": include or list(settings.include),
        "exclude": [glob for glob in settings.exclude if ("exclude", glob, None) in applied],
        "chunks": {glob: size for glob, size in settings.chunks if ("chunks", glob, size) in applied},
        "shards": {glob: size for glob, size in settings.shards if ("shards", glob, size) in applied},
    }
