"""The arrays of a file or a store as a tree, and which of them are shown where there are too many."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from h5bound.reports.text import format_nbytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Type, shape and chunks of an array."""

    type: str
    """Its name for people."""
    shape: tuple[int, ...] | None
    """None for a null dataspace."""
    chunks: tuple[int, ...] | None = None
    """Shape of a chunk; None without chunks, or where the dataset became several arrays."""
    shards: tuple[int, ...] | None = None
    """Shape of a shard; None without shards."""
    nbytes: int | None = None
    """Bytes of the values in memory; None if their length varies."""
    dims: tuple[str | None, ...] = ()
    """Names of the axes; empty if they are not known."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of chunks along each axis; empty without chunks."""
        if self.shape is None or self.chunks is None:
            return ()
        return tuple(-(-extent // max(chunk, 1)) for extent, chunk in zip(self.shape, self.chunks, strict=True))

    def to_dict(self) -> dict[str, object]:
        """Return the keys of a JSON object."""
        sizes = {"shape": self.shape, "chunk_shape": self.chunks, "shard_shape": self.shards}
        shapes = {name: None if shape is None else list(shape) for name, shape in sizes.items()}
        if self.shards is None:
            del shapes["shard_shape"]
        return {"type": self.type, **shapes, "bytes": self.nbytes}

    def describe_shape(self) -> str:
        """Return the shape, with the names of the axes that have one.

        >>> Grid(type="int8", shape=(3, 4), dims=("time", None)).describe_shape()
        '(time=3, 4)'
        """
        if self.shape is None:
            return "null"
        names = self.dims or (None,) * len(self.shape)
        return f"({', '.join(f'{n}={size}' if n else str(size) for n, size in zip(names, self.shape, strict=True))})"

    def describe_chunks(self) -> str:
        """Return the number of chunks and their shape; "" without chunks or axes.

        >>> Grid(type="int8", shape=(3, 4), chunks=(2, 4)).describe_chunks()
        '2 chunks of (2, 4)'
        """
        if not self.shape or self.chunks is None:
            return ""
        shards = "" if self.shards is None else f", in shards of ({', '.join(map(str, self.shards))})"
        return f"{plural(prod(self.counts), 'chunk')} of ({', '.join(map(str, self.chunks))}){shards}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """An array, or a group that holds nothing."""

    path: str
    """Path from the root, as it is in the file."""
    grid: Grid | None = None
    """None for a group."""
    nbytes: int = 0
    """Its size: what is stored of it, or its values."""
    how: str = ""
    """What became of it, in a word."""
    facts: Callable[[], Mapping[str, str]] = dict
    """Returns what else there is to say, with titles; "" for nothing. Called where it is shown."""


@dataclass(slots=True, eq=False)
class Branch:
    """A group with what is in it."""

    name: str
    branches: dict[str, Branch] = field(default_factory=dict)
    leaves: list[tuple[int, Leaf]] = field(default_factory=list)
    """Arrays, and groups that hold nothing, with their numbers in the tree."""
    groups: int = 0
    """Groups below it."""
    datasets: int = 0
    """Arrays below it."""
    nbytes: int = 0

    def describe(self) -> str:
        """Return what is below it, in words.

        >>> Branch("x", groups=1, datasets=2).describe(), Branch("x").describe()
        ('1 group, 2 datasets', 'empty')
        """
        counts = {"group": self.groups, "dataset": self.datasets}
        return ", ".join(plural(count, noun) for noun, count in counts.items() if count) or "empty"

    def count(self, leaf: Leaf) -> None:
        """Add a leaf to the numbers."""
        self.groups += leaf.grid is None
        self.datasets += leaf.grid is not None
        self.nbytes += leaf.nbytes


def grow_tree(leaves: Sequence[Leaf]) -> Branch:
    """Return the tree of leaves, with groups in the order of their first leaf.

    >>> tree = grow_tree([Leaf(path="/a/x", grid=Grid(type="int8", shape=())), Leaf(path="/a/b"), Leaf(path="/c")])
    >>> tree.describe(), tree.branches["a"].describe()
    ('3 groups, 1 dataset', '1 group, 1 dataset')
    """
    root = Branch("/")
    for number, leaf in enumerate(leaves):
        branch = root
        branches = [root]
        for part in split(leaf.path)[:-1]:
            if part not in branch.branches:
                branch.branches[part] = Branch(part)
                for above in branches:
                    above.groups += 1
            branch = branch.branches[part]
            branches.append(branch)
        branch.leaves.append((number, leaf))
        for above in branches:
            above.count(leaf)
    return root


def split(path: str) -> list[str]:
    """Return the names on a path; that of the root is empty."""
    return [part for part in path.split("/") if part] or [""]


def order_by_rank(tree: Branch) -> list[int]:
    """Return the numbers of the leaves, first those that are the first in their groups.

    The rank of a leaf is the largest of the positions of it and its groups among their siblings.

    >>> order_by_rank(grow_tree([Leaf(path=path) for path in ("/a/x", "/a/y", "/a/z", "/b/x", "/b/y")]))
    [0, 1, 3, 4, 2]
    """
    ranks: list[tuple[int, int]] = []
    stack = [(tree, 0)]
    while stack:
        branch, rank = stack.pop()
        ranks += ((max(rank, position), number) for position, (number, _) in enumerate(branch.leaves))
        stack += ((inner, max(rank, position)) for position, inner in enumerate(branch.branches.values()))
    return [number for _, number in sorted(ranks)]


def order_by_size(leaves: Sequence[Leaf]) -> list[int]:
    """Return the numbers of the leaves, the largest ones first."""
    return sorted(range(len(leaves)), key=lambda number: -leaves[number].nbytes)


def find_branches(tree: Branch, leaves: Iterable[Leaf]) -> set[int]:
    """Return the identities of the groups that hold any of these leaves."""
    found = set()
    for leaf in leaves:
        branch = tree
        for part in split(leaf.path)[:-1]:
            branch = branch.branches[part]
            found.add(id(branch))
    return found


def describe_rest(leaves: Iterable[Leaf], branches: Iterable[Branch]) -> tuple[str, str]:
    """Return what is not shown of a group in words, and its size; "" if all is shown."""
    rest = Branch("")
    for leaf in leaves:
        rest.count(leaf)
    for branch in branches:
        rest.groups += branch.groups + 1
        rest.datasets += branch.datasets
        rest.nbytes += branch.nbytes
    if not rest.groups + rest.datasets:
        return "", ""
    return f"… not shown: {rest.describe()}", format_nbytes(rest.nbytes) if rest.datasets else ""


def list_empty_groups(groups: Iterable[str], paths: Iterable[str]) -> list[Leaf]:
    """Return the groups that hold no other object, as leaves.

    >>> [leaf.path for leaf in list_empty_groups(["/", "/a", "/b"], ["/a/x"])]
    ['/b']
    """
    groups = list(groups)
    above = {path.rpartition("/")[0] or "/" for path in (*groups, *paths) if path != "/"}
    return [Leaf(path=path) for path in groups if path not in above and path != "/"]


def label(leaf: Leaf) -> str:
    """Return the last name of a leaf's path, printable."""
    return printable(split(leaf.path)[-1] or "/")
