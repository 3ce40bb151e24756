"""Select objects of a file by the include and exclude globs, and the rule that applies to a path."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from h5bound.reports.entries import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h5bound.hdf5.hierarchy import Hierarchy
    from h5bound.hdf5.links import LinkRecord
    from h5bound.planning.options import Rules, Settings


LEFT_OUT = "left out by include or exclude"


def matches(path: str, glob: str) -> bool:
    """Return whether a glob matches a path or a group above it; ``*`` also matches slashes.

    >>> matches("/entry/data/x", "/entry/d*"), matches("/entry/data", "data"), matches("/entry/data", "*/data")
    (True, False, True)
    """
    pattern = glob.rstrip("/") if glob.startswith(("/", "*")) else f"/{glob.rstrip('/')}"
    names = path.split("/")
    prefixes = ("/".join(names[:stop]) or "/" for stop in range(1, len(names) + 1))
    return any(fnmatchcase(prefix, pattern or "/") for prefix in prefixes)


def find_rule(rules: Rules, path: str, ndim: int) -> int | None:
    """Return the number of the first rule that matches a path and has bytes, or a shape of `ndim` axes.

    >>> find_rule((("/a", (3,)), ("*", (1, 2))), "/a", 2)
    1
    """
    fitting = (
        number
        for number, (glob, size) in enumerate(rules)
        if (isinstance(size, int) or len(size) == ndim) and matches(path, glob)
    )
    return next(fitting, None)


def is_selected(path: str, settings: Settings) -> bool:
    """Return whether the include and exclude globs select a path."""
    if any(matches(path, glob) for glob in settings.exclude):
        return False
    return not settings.include or any(matches(path, glob) for glob in settings.include)


def select_objects(hierarchy: Hierarchy, settings: Settings) -> tuple[Hierarchy, list[Skipped]]:
    """Return the selected objects with the groups above them, and the skipped ones, not members of skipped groups."""
    if not settings.include and not settings.exclude:
        return hierarchy, []
    hierarchy = prefer_selected_names(hierarchy, settings)
    selected = {path for path in list_paths(hierarchy) if is_selected(path, settings)}
    kept = selected | {"/"} | {above for path in selected for above in list_groups_above(path)}
    links, skipped_links = select_links(hierarchy, settings, kept)
    hierarchy = prefer_selected_copies(hierarchy, kept)
    committed = [path for path in hierarchy.committed_types if not is_selected(path, settings)]
    skipped = [path for path in [*list_paths(hierarchy), *committed] if path not in kept and parent_of(path) in kept]
    selection = replace(
        hierarchy,
        groups=tuple(path for path in hierarchy.groups if path in kept),
        datasets=tuple(record for record in hierarchy.datasets if record.path in kept),
        links=tuple(links),
        committed_types=tuple(path for path in hierarchy.committed_types if is_selected(path, settings)),
        problems=tuple(problem for problem in hierarchy.problems if is_selected(problem[0], settings)),
    )
    return selection, [*(Skipped(path, LEFT_OUT, asked=True) for path in skipped), *skipped_links]


def select_links(hierarchy: Hierarchy, settings: Settings, kept: set[str]) -> tuple[list[LinkRecord], list[Skipped]]:
    """Return the selected links of the groups in `kept`, and the skipped ones."""
    links, skipped = [], []
    for link in hierarchy.links:
        if parent_of(link.path) not in kept:
            continue
        if not is_selected(link.path, settings):
            skipped.append(Skipped(link.path, LEFT_OUT, asked=True))
        elif link.kind == "hard" and link.to not in kept:
            skipped.append(Skipped(link.path, f"its target {link.to} is {LEFT_OUT}", asked=True))
        else:
            links.append(link)
    return links, skipped


def prefer_selected_names(hierarchy: Hierarchy, settings: Settings) -> Hierarchy:
    """Return the hierarchy with each dataset under the first of its names that is selected, if one is."""
    skipped = {record.path for record in hierarchy.datasets if not is_selected(record.path, settings)}
    names: dict[str, str] = {}
    for link in hierarchy.links:
        if link.kind == "hard" and link.to in skipped and is_selected(link.path, settings):
            names.setdefault(link.to, link.path)
    if not names:
        return hierarchy

    def swap(link: LinkRecord) -> LinkRecord:
        if link.target in names:
            return replace(link, target=names[link.target])
        name = names.get(link.to) if link.kind == "hard" else None
        if name is None:
            return link
        return replace(link, path=link.to, to=name) if link.path == name else replace(link, to=name)

    return replace(
        hierarchy,
        datasets=tuple(replace(record, path=names.get(record.path, record.path)) for record in hierarchy.datasets),
        links=tuple(map(swap, hierarchy.links)),
        addresses={address: names.get(path, path) for address, path in hierarchy.addresses.items()},
    )


def prefer_selected_copies(hierarchy: Hierarchy, kept: set[str]) -> Hierarchy:
    """Return the hierarchy with the address of each object that is not in `kept` under a copy that is, if one is."""
    names: dict[str, str] = {}
    for path in sorted(kept) if hierarchy.copied else ():
        names.setdefault(hierarchy.find_original(path), path)
    addresses = {
        address: path if path in kept else names.get(path, path) for address, path in hierarchy.addresses.items()
    }
    return replace(hierarchy, addresses=addresses)


def list_all_paths(hierarchy: Hierarchy) -> list[str]:
    """Return the paths of all objects and links that a glob can match."""
    others = [*(link.path for link in hierarchy.links), *hierarchy.committed_types]
    return [*list_paths(hierarchy), *others, *(path for path, _ in hierarchy.problems)]


def list_paths(hierarchy: Hierarchy) -> list[str]:
    """Return the paths of all groups, then those of all datasets."""
    return [*hierarchy.groups] + [dataset.path for dataset in hierarchy.datasets]


def list_groups_above(path: str) -> Iterator[str]:
    """Yield the paths of the groups above an object, without the root.

    >>> list(list_groups_above("/a/b/c"))
    ['/a', '/a/b']
    """
    names = path.split("/")
    return ("/".join(names[:stop]) for stop in range(2, len(names)))


def parent_of(path: str) -> str:
    """Return the path of the group that holds an object.

    >>> parent_of("/a/b"), parent_of("/a")
    ('/a', '/')
    """
    return path.rpartition("/")[0] or "/"
