"""Which objects of a file the include and exclude globs select, and which rule applies to a path."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from h5bound.reports import Skipped

if TYPE_CHECKING:
    from h5bound.chunk_grid import Shape
    from h5bound.hdf5.hierarchy import Hierarchy
    from h5bound.hdf5.links import LinkRecord
    from h5bound.planning.options import Rules, Settings


def matches(path: str, glob: str) -> bool:
    """Tell whether a glob meets a path or a group above it; ``*`` goes across slashes.

    Examples
    --------
    >>> matches("/entry/data/x", "/entry/d*"), matches("/entry/data", "data"), matches("/entry/data", "*/data")
    (True, False, True)
    """
    pattern = glob.rstrip("/") if glob.startswith(("/", "*")) else f"/{glob.rstrip('/')}"
    parts = path.split("/")
    above = ("/".join(parts[:stop]) or "/" for stop in range(1, len(parts) + 1))
    return any(fnmatchcase(name, pattern or "/") for name in above)


def match_shape(rules: Rules, path: str, ndim: int) -> Shape | int | None:
    """Give the size of the first rule that meets a path: bytes, or a shape with as many axes.

    >>> match_shape((("/a", (3,)), ("*", (1, 2))), "/a", 2)
    (1, 2)
    """
    return next(
        (size for glob, size in rules if matches(path, glob) and (isinstance(size, int) or len(size) == ndim)),
        None,
    )


def is_wanted(path: str, settings: Settings) -> bool:
    """Tell whether the include and exclude globs let a path in."""
    if any(matches(path, glob) for glob in settings.exclude):
        return False
    return not settings.include or any(matches(path, glob) for glob in settings.include)


LEFT_OUT = "left out by include or exclude"


def keep_wanted(index: Hierarchy, settings: Settings, skipped: list[Skipped]) -> Hierarchy:
    """Give the index without what include and exclude leave out, which is noted down, the highest groups only."""
    if not settings.include and not settings.exclude:
        return index
    index = prefer_wanted(index, settings)
    wanted = {record.path for record in index.datasets if is_wanted(record.path, settings)}
    wanted |= {record.path for record in index.groups if is_wanted(record.path, settings)}
    above = {"/"} | {"/".join(path.split("/")[:stop]) for path in wanted for stop in range(2, path.count("/") + 1)}
    kept = wanted | above
    skipped += [
        Skipped(path, LEFT_OUT, asked=True)
        for path in list_paths(index)
        if path not in kept and parent_of(path) in kept
    ]
    skipped += [
        Skipped(note.path, LEFT_OUT, asked=True)
        for note in index.notes
        if not is_wanted(note.path, settings) and parent_of(note.path) in kept
    ]
    links = []
    for link in (link for link in index.links if parent_of(link.path) in kept):
        if not is_wanted(link.path, settings):
            skipped.append(Skipped(link.path, LEFT_OUT, asked=True))
        elif link.kind == "hard" and link.to not in kept:
            skipped.append(Skipped(link.path, f"what it leads to, {link.to}, is {LEFT_OUT}", asked=True))
        else:
            links.append(link)
    return replace(
        index,
        groups=tuple(record for record in index.groups if record.path in kept),
        datasets=tuple(record for record in index.datasets if record.path in kept),
        links=tuple(links),
        notes=tuple(note for note in index.notes if is_wanted(note.path, settings)),
        problems=tuple(item for item in index.problems if is_wanted(item[0], settings)),
    )


def prefer_wanted(index: Hierarchy, settings: Settings) -> Hierarchy:
    """Give the index with each dataset under the first of its names that is not left out, if there is one."""
    datasets = {record.path for record in index.datasets if not is_wanted(record.path, settings)}
    names: dict[str, str] = {}
    for link in index.links:
        if link.kind == "hard" and link.to in datasets and is_wanted(link.path, settings):
            names.setdefault(link.to, link.path)
    if not names:
        return index

    def turn(link: LinkRecord) -> LinkRecord:
        name = names.get(link.to) if link.kind == "hard" else None
        if name is None:
            return link
        return replace(link, path=link.to, to=name) if link.path == name else replace(link, to=name)

    return replace(
        index,
        datasets=tuple(replace(record, path=names.get(record.path, record.path)) for record in index.datasets),
        links=tuple(map(turn, index.links)),
        addresses={address: names.get(path, path) for address, path in index.addresses.items()},
    )


def list_paths(index: Hierarchy) -> list[str]:
    """Give the paths of all groups, and then of all datasets."""
    return [group.path for group in index.groups] + [dataset.path for dataset in index.datasets]


def parent_of(path: str) -> str:
    """Give the path of the group that holds an object.

    >>> parent_of("/a/b"), parent_of("/a")
    ('/a', '/')
    """
    return path.rpartition("/")[0] or "/"
