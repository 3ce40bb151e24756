"""Ways to do one thing, timed in turns, each in a process of its own.

What one way leaves behind in a process, such as freed memory, would help the next one, and what else the machine does
in a minute would help the other: so every way has its process, and in every round each has its turn.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from operator import truediv
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

Ratios: TypeAlias = dict[str, float]
"""How many times as good as the reference, by name: what is higher is better."""

Way: TypeAlias = Callable[[], float]
"""Does something once, checks the result, and returns the seconds that it took: a function, or a `partial` of one."""


def open_process() -> ProcessPoolExecutor:
    """Return a fresh process that runs one call at a time."""
    return ProcessPoolExecutor(1, get_context("spawn"), set_path)


def set_path() -> None:
    """Let the processes that this one starts find ``bench``."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])


def call_alone(function: Callable[..., Any], *arguments: object, **options: object) -> Any:
    """Return what a function returns in a process of its own."""
    with open_process() as process:
        return process.submit(partial(function, *arguments, **options)).result()


@dataclass(frozen=True, slots=True)
class Turns:
    """What a measurement has to work with."""

    folder: Path
    """Its files."""
    quick: bool = False
    """Small files, one round, and no processes."""
    _processes: dict[str, ProcessPoolExecutor] = field(default_factory=dict)

    def compare(self, ways: Mapping[str, Way], reference: str, rounds: int = 3, *, warm: bool = True) -> Ratios:
        """Return how many times as fast as the reference each other way is, as the median of the rounds.

        One round before them does not count; without `warm` there is none, for ways that have run in their processes
        before. A way of the same name in a later call runs in the same process.
        """
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(1 if self.quick else rounds + warm):
            first = turn % len(ways)
            for name in [*ways, *ways][first : first + len(ways)]:
                way = ways[name]
                seconds[name].append(way() if self.quick else self._find_process(name).submit(way).result())
        counted = slice(1 if warm and not self.quick else 0, None)
        return {
            name: median(map(truediv, seconds[reference][counted], own[counted]))
            for name, own in seconds.items()
            if name != reference
        }

    def _find_process(self, name: str) -> ProcessPoolExecutor:
        if name not in self._processes:
            self._processes[name] = open_process()
        return self._processes[name]

    def __enter__(self) -> Turns:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.shutdown()
