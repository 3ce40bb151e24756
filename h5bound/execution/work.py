"""The work of a conversion or verification on each unit, and its results."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from h5bound.reports.text import format_nbytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence, Sized

    Progress = Callable[[int, int], None]
    Run = Callable[..., list[Any]]


LOGGER = logging.getLogger(__name__)


class Job(Protocol):
    """One array to write or compare: what its units have in common."""

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
    """The result of one work unit."""

    array: int
    """Number of the array among the jobs."""
    nbytes: int = 0
    """Bytes that were written or compared."""
    unchanged_nbytes: int = 0
    """Those of them that the store had already, and that were not written again."""
    unchanged: int = 0
    """Keys of the store that have them."""
    chunks: int = 0
    """Chunks that were written, or that differ."""
    problem: str = ""
    """Why the unit was not written, or how it differs."""
    unreadable: bool = False
    """Whether the source could not be read."""


class ByteCount:
    """The bytes that a run has done. Its thread calls a function with them whenever there are more.

    >>> count = ByteCount(3, print)
    >>> count.add(1), count.add(2), count.add(0)
    1 3
    3 3
    (None, None, None)
    """

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done = 0
        self.total = total
        self.progress = progress

    def add(self, nbytes: int) -> None:
        """Count bytes."""
        self.done += nbytes
        if nbytes and self.progress is not None:
            self.progress(self.done, self.total)

    def __str__(self) -> str:
        return f"{format_nbytes(self.done)} of {format_nbytes(self.total)}"


def log_window(number: int, windows: int, counted: ByteCount) -> None:
    """Log that the source was read for a window, and closed."""
    done = f"; {counted} done so far" if counted.done else ""  # nothing of the first window is written yet
    LOGGER.info("window %d of %d was read, and the file closed%s", number, windows, done)


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
    """The functions that process each unit."""

    name: str
    """Prefix of the keys of the tasks that call `use`."""
    read: Callable[[Any, Any, Any], Any]
    """Function that reads a unit; called with the open file, the job and the unit."""
    use: Callable[[Any, Any, Any], Result]
    """Function that uses a unit once the file is closed; called with the job, the unit and the result of `read`."""
    check: Callable[[Any], None] | None = None
    """Function that raises an error if its process does not see the store of a job."""
    delete_partial: Callable[[Any], None] | None = None
    """Function that deletes partial keys of workers that died from the store of a job."""
    keeps: bool = True
    """Whether what is read is kept until the close; if not, there is no reason for a window to be small."""


class Stages:
    """Several runs, one after another, whose progress counts as one; `total` is the bytes of the units of all.

    `run` is :func:`h5bound.execution.run.run_units` without the arguments that `run` of this class has.
    """

    def __init__(self, run: Run, progress: Progress | None, total: int) -> None:
        self._run = run
        self._progress = progress
        self._total = total
        self._before = 0

    def run(self, work: Work[Result], jobs: Sequence[Any], units: Sequence[Any]) -> list[Result]:
        """Run units, and return their results."""
        before, progress = self._before, self._progress
        shifted = None if progress is None else lambda done, _total: progress(before + done, self._total)
        results: list[Result] = self._run(work, jobs, units, progress=shifted)
        self._before += sum(unit.nbytes for unit in units)
        return results
