"""What is done with each work unit of a conversion or verification, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence, Sized

    Progress = Callable[[int, int], None]


class Job(Protocol):
    """What the units of one array have in common."""

    @property
    def path(self) -> str:
        """Path of the dataset in reports."""

    @property
    def origin(self) -> int:
        """Number of the source that the units are read from."""


class WorkUnit(Protocol):
    """Some chunks of one array, read by one task and used by another."""

    @property
    def array(self) -> int:
        """Number of the array among the jobs."""

    @property
    def chunk_coords(self) -> Sized:
        """Coordinates of the chunks."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory once read."""


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What became of one work unit."""

    array: int
    """Number of the array among the jobs."""
    nbytes: int = 0
    """Bytes that were written or compared."""
    chunks: int = 0
    """Chunks that were written, or that differ."""
    problem: str = ""
    """Why the unit was not written, or how it differs."""
    unreadable: bool = False
    """Whether the source could not be read."""


def list_problems(jobs: Sequence[Job], results: Iterable[UnitResult]) -> dict[str, str]:
    """Return the first problem of each dataset that has one, by its path."""
    problems: dict[str, str] = {}
    for result in results:
        if result.problem:
            problems.setdefault(jobs[result.array].path, result.problem)
    return problems


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Work(Generic[Result]):
    """What is done with each unit."""

    name: str
    """Prefix of the keys of the tasks that use what was read."""
    read: Callable[[Any, Any, Any], Any]
    """Reads a unit: called with the open file, the job and the unit."""
    use: Callable[[Any, Any, Any], Result]
    """Uses what was read, once the file is closed: called with the job, the unit and what `read` returned."""
    check: Callable[[Any], None] | None = None
    """Raises an error if the process that runs it does not see the store of a job."""
    delete_partial: Callable[[Any], None] | None = None
    """Deletes what workers that died have left in the store of a job."""
