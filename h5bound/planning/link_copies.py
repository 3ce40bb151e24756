"""What the links within a file lead to, and the hierarchy in which objects stand in their place.

::

    /data       dataset                  /data       dataset
    /entry      group                    /entry      group
    /entry/x -> /data                    /entry/x    dataset: that of /data
    /entry/up -> /                       /entry/up -> /            a circle: it stays a link
    /again -> /entry                     /again      group: that of /entry
                                         /again/x    dataset: that of /data
                                         /again/up -> /

Copies are read from the first path of their object.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from h5bound.errors import UnsafeSourceError
from h5bound.hdf5.dataset import DatasetRecord
from h5bound.hdf5.hierarchy import Hierarchy, Limits, read_hierarchy
from h5bound.hdf5.links import MAX_LINKS, LinkRecord, count_as_links, encode_name, join_path
from h5bound.planning.selection import parent_of
from h5bound.reports.text import cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import h5py

    from h5bound.planning.options import Settings

Item: TypeAlias = "str | DatasetRecord | LinkRecord"
"""What is at a path: a dataset or link, or ``group``, ``type``, or the reason why it cannot be opened."""


def read_objects(file: h5py.File, settings: Settings, limits: Limits, *, start: str = "/") -> Hierarchy:
    """Read the hierarchy of a file or of one of its groups, with copies in place of its links if they are asked for."""
    hierarchy = read_hierarchy(file, start=start, max_objects=limits.max_objects, max_depth=limits.max_depth)
    hierarchy = find_targets(hierarchy)
    return copy_links(hierarchy, limits) if settings.links == "copy" else hierarchy


def find_targets(hierarchy: Hierarchy) -> Hierarchy:
    """Return the hierarchy with the target of each soft link that leads to one of its objects."""
    if not any(link.kind == "soft" for link in hierarchy.links):
        return hierarchy
    items = list_items(hierarchy)
    links = (
        replace(link, target=find_target(items, link)) if link.kind == "soft" else link for link in hierarchy.links
    )
    return replace(hierarchy, links=tuple(links))


def find_target(items: Mapping[str, Item], link: LinkRecord) -> str | None:
    """Return the first path of what a soft link leads to, None if that is not among the items.

    As in HDF5, empty components and ``.`` are ignored, and ``..`` is a name like any other.

    >>> link = LinkRecord("/g/s", "soft", "./near/x")
    >>> find_target({"/g/near": LinkRecord("/g/near", "hard", "/h"), "/h": "group", "/h/x": "type"}, link)
    '/h/x'
    """
    path = "/" if link.to.startswith("/") else parent_of(link.path)
    parts = link.to.split("/")[::-1]  # the next component last
    followed = 0
    while parts:
        name = parts.pop()
        if name in ("", "."):
            continue
        child = f"{path.rstrip('/')}/{name}"
        item = items.get(child)
        if item is None:
            return None
        if not isinstance(item, LinkRecord):
            path = child
        elif item.kind == "hard":
            path = item.to
        elif item.kind == "soft" and followed < MAX_LINKS:
            followed += 1
            path = "/" if item.to.startswith("/") else path
            parts += item.to.split("/")[::-1]
        else:
            return None
    return path


def list_items(hierarchy: Hierarchy) -> dict[str, Item]:
    """Return what is at each path of a hierarchy."""
    return {
        **dict(hierarchy.problems),
        **dict.fromkeys(hierarchy.committed_types, "type"),
        **{record.path: record for record in hierarchy.datasets},
        **{link.path: link for link in hierarchy.links},
        **dict.fromkeys(hierarchy.groups, "group"),
    }


def copy_links(hierarchy: Hierarchy, limits: Limits) -> Hierarchy:
    """Return the hierarchy with the objects that hard and soft links lead to in place of the links.

    A link to a group that it is in stays one. Raise UnsafeSourceError if the limits are exceeded: a few links between
    groups that hold each other's links can stand for any number of objects.
    """
    if not hierarchy.groups or not any(link.kind in ("hard", "soft") for link in hierarchy.links):
        return hierarchy
    copies = _Copies(hierarchy, limits)
    start = hierarchy.groups[0]
    copies.enter(start, start, above=frozenset())
    copies.run()
    return replace(
        hierarchy,
        groups=tuple(copies.groups),
        datasets=tuple(copies.datasets),
        links=tuple(copies.links),
        committed_types=tuple(copies.committed_types),
        problems=tuple(dict.fromkeys((*hierarchy.problems, *copies.problems))),
        copied=copies.copied,
    )


@dataclass(slots=True)
class _Copies:
    """A walk through a hierarchy that follows its links."""

    hierarchy: Hierarchy
    limits: Limits
    groups: list[str] = field(default_factory=list)
    datasets: list[DatasetRecord] = field(default_factory=list)
    links: list[LinkRecord] = field(default_factory=list)
    committed_types: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    copied: dict[str, LinkRecord] = field(default_factory=dict)
    count: int = 0
    """Of objects and links, as `count_as_links` counts."""
    items: dict[str, Item] = field(init=False)
    """What is at each path of the hierarchy."""
    names: dict[str, list[bytes]] = field(init=False)
    """The names in each group, in order."""
    stack: list[tuple[str, str, frozenset[str], Iterator[bytes]]] = field(default_factory=list)
    """Each group on the path: its path in the hierarchy, that of the copy, it and the groups above, names to visit."""

    def __post_init__(self) -> None:
        hierarchy = self.hierarchy
        self.items = list_items(hierarchy)
        self.names = {}
        for path in self.items.keys() - hierarchy.groups[:1]:
            self.names.setdefault(parent_of(path), []).append(encode_name(path.rpartition("/")[2]))
        for names in self.names.values():
            names.sort()

    def run(self) -> None:
        """Visit everything below the group that was entered last."""
        while self.stack:
            group, path, above, names = self.stack[-1]
            name = next(names, None)
            if name is None:
                self.stack.pop()
            else:
                self.visit(join_path(group, name), join_path(path, name), above=above)

    def enter(self, group: str, path: str, above: frozenset[str]) -> None:
        """Add a group of the hierarchy at a path, in the groups `above`; `run` visits what is in it."""
        self.groups.append(path)
        names = self.names.get(group, ())
        self.count += sum(count_as_links(name, path) for name in names)
        if self.count > self.limits.max_objects:
            self.refuse(f"{self.limits.max_objects:,} objects and links", path, "max_objects")
        if names and len(above) >= self.limits.max_depth:
            self.refuse(f"{self.limits.max_depth} components of a path", path, "max_depth")
        self.stack.append((group, path, above | {group}, iter(names)))

    def visit(self, original: str, path: str, above: frozenset[str]) -> None:
        """Add what is at a path of the hierarchy at another path, or the same."""
        item = self.items[original]
        if isinstance(item, LinkRecord):
            link = replace(item, path=path)
            target = link.to if link.kind == "hard" else link.target
            copied_item = None if target is None or target in above else self.items.get(target)
            if target is None or not (isinstance(copied_item, DatasetRecord) or copied_item == "group"):
                self.links.append(link)
                return
            self.copied[path] = link
            original, item = target, copied_item
        if isinstance(item, DatasetRecord):
            self.datasets.append(replace(item, path=path))
        elif item == "group" and original in above:  # a copy of it is around a copy of a group above it
            self.links.append(LinkRecord(path=path, kind="hard", to=original))
        elif item == "group":
            self.enter(original, path, above=above)
        elif item == "type":
            self.committed_types.append(path)
        else:
            self.problems.append((path, item))

    def refuse(self, limit: str, path: str, option: str) -> None:
        """Raise UnsafeSourceError because of a limit."""
        raise UnsafeSourceError(
            f"{self.hierarchy.file}: links='copy' makes more than {limit} of it (limit reached in {cut(path, 80)!r}); "
            f"keep its links with links='keep', or raise {option}"
        )
