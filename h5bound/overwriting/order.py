"""The order of tasks that read and write the same data.

A block must not be read after it was overwritten: a task that reads it has to be the one that writes to it, or one that
this depends on. The order makes no difference at different blocks, nor if what is written was read at the same place:
xarray writes the coordinates of a variable again.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set

    from dask.typing import Key


@dataclass(frozen=True, slots=True)
class Write:
    """A task that writes to a variable."""

    region: str | None = None
    """The only region that the task names, so that it reads and writes there; None if it names several."""
    is_copy: bool = False
    """Whether it writes what it reads, if it reads this variable."""


def all_precede(readers: Iterable[Key], writes: Iterable[Key], dependents: Mapping[Key, Set[Key]]) -> bool:
    """Return whether each task that reads ends before the first task begins that writes."""
    later = set(writes)
    return all(reader not in later and _all_follow(later, reader, dependents) for reader in readers)


def are_ordered(
    readers: Mapping[Key, str | None], writes: Mapping[Key, Write], dependents: Mapping[Key, Set[Key]]
) -> bool:
    """Return whether each task that reads a variable ends before a task begins that overwrites what it reads.

    `readers` are the tasks that read, with the only region that each names.
    """
    if all(write.is_copy and write.region and key in readers for key, write in writes.items()):
        return True
    by_region: dict[str | None, set[Key]] = defaultdict(set)
    for key, write in writes.items():
        by_region[write.region].add(key)
    for reader, region in readers.items():
        known = region is not None and region in by_region
        later = (by_region[region] | by_region[None] if known else set(writes)) - {reader}
        if not _all_follow(later, reader, dependents):
            return False
    return True


def _all_follow(later: set[Key], key: Key, dependents: Mapping[Key, Set[Key]]) -> bool:
    """Return whether the tasks `later` depend on the task `key`."""
    followers: set[Key] = set()
    new = {key}
    while new and not later <= followers:
        new = {after for before in new for after in dependents[before]} - followers
        followers |= new
    return later <= followers
