"""What is done with each work unit of a conversion or verification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    Progress = Callable[[int, int], None]


class Job(Protocol):
    """What the units of one array have in common."""

    @property
    def origin(self) -> int:
        """Number of the source that they are read from."""


class WorkUnit(Protocol):
    """Some chunks of one array, read by one task and used by another."""

    @property
    def array(self) -> int:
        """Number of the array among the jobs."""

    @property
    def chunk_coords(self) -> Sized:
        """The chunks."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory once read."""


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Work(Generic[Result]):
    """What is done with each unit."""

    name: str
    """of the task that uses it"""
    read: Callable[..., Any]
    """gives the unit from the opened file, its job and itself"""
    use: Callable[[Any], Result]
    """takes what was read, once the file is closed"""
    check: Callable[[Any], None]
    """raises unless what a job is about can be seen in the process that is to use it"""
    tidy: Callable[[Any], None]
    """deletes what processes that died may have left of the store that a job is about"""
