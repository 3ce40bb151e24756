"""What differs between files, as one table: which variable, what, in which files, and what to do."""

from __future__ import annotations

import re
import shutil
import sys
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from h5bound.errors import OptionError, UnsupportedError
from h5bound.reports.many_files import Difference
from h5bound.reports.remarks import Fact, Section, fit_sections, group_facts
from h5bound.reports.text import SCREEN_ROWS, SCREEN_WIDTH, count_rows, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from h5bound.errors import H5BoundError

MAX_RANGES = 3
"""Ranges of files that a row names."""

MAX_ACTIONS = 5
"""Most things to do that an error lists."""

NO_SCREEN = 10**6
"""Columns of a line that is not cut."""

LEAVE_OUT = "exclude=[{!r}] leaves it out"
"""What to do about a variable that cannot be joined."""

ALL = "a pipe or a file gets all of them, and so does `differences` of the error"
"""Where the differences are that a screen has no room for."""

PATHS = re.compile(r"exclude=\[[^]]*\]")
"""What an action names of one variable only."""


class FileNames:
    """The names of files, by their numbers in the final order."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.names = shorten(paths)

    def describe(self, numbers: Iterable[int]) -> str:
        """Return files as ranges.

        >>> names = FileNames([f"in/{name}.nc" for name in "abcdef"])
        >>> names.describe([1]), names.describe([0, 1, 2, 5])
        ('b.nc', 'a.nc … c.nc, f.nc (4 files)')
        """
        given = np.unique(np.fromiter(numbers, np.int64))
        runs = np.split(given, np.flatnonzero(np.diff(given) != 1) + 1) if given.size else []
        texts = [self._describe_run(int(run[0]), int(run[-1])) for run in runs[:MAX_RANGES]]
        more = ", …" if len(runs) > MAX_RANGES else ""
        count = f" ({plural(given.size, 'file')})" if given.size > 1 else ""
        return f"{', '.join(texts)}{more}{count}"

    def _describe_run(self, first: int, last: int) -> str:
        if first == last:
            return self.names[first]
        between = ", " if last == first + 1 else " … "
        return f"{self.names[first]}{between}{self.names[last]}"


class Findings:
    """The differences that the rules find, one after another."""

    def __init__(self, names: FileNames) -> None:
        self.names = names
        self.rows: list[Difference] = []

    def refuse(self, variable: str, what: str, numbers: Iterable[int], *, action: str, option: bool = True) -> None:
        """Add a difference that is refused, and what to do; `option` says whether an option decides it."""
        self._add("refused", variable, what, numbers=numbers, action=action, option=option)

    def leave_out(self, variable: str, what: str, numbers: Iterable[int]) -> None:
        """Add a difference that no option decides: the variable has to be left out."""
        self.refuse(variable, what, numbers, action=LEAVE_OUT.format(variable), option=False)

    def decide(self, variable: str, what: str, numbers: Iterable[int], *, action: str) -> None:
        """Add a difference that an option decides, and what is done."""
        self._add("decided", variable, what, numbers=numbers, action=action)

    def note(self, variable: str, what: str, numbers: Iterable[int], *, action: str = "") -> None:
        """Add a difference that changes no value."""
        self._add("note", variable, what, numbers=numbers, action=action)

    def _add(self, kind: Any, variable: str, what: str, *, numbers: Iterable[int], action: str, **more: bool) -> None:
        files = self.names.describe(numbers)
        self.rows.append(Difference(kind=kind, variable=variable, what=what, files=files, action=action, **more))


def shorten(paths: Sequence[str]) -> list[str]:
    """Return names of files without the folders that all have; of those in a store only the name is known.

    >>> shorten(["/in/2020/a.nc", "/in/2021/a.nc"]), shorten(["a.nc", "/in/b.nc"])
    (['2020/a.nc', '2021/a.nc'], ['a.nc', 'b.nc'])
    """
    split = [path.split("/") for path in paths]
    folders = [parts[:-1] for parts in split if parts[1:]]
    shortest = min(map(len, folders), default=0)
    common = 0
    while common < shortest and len({folder[common] for folder in folders}) == 1:
        common += 1
    return ["/".join(parts[common:] if parts[1:] else parts) for parts in split]


def name_files(paths: Sequence[str]) -> str:
    """Return the number of files, the first and the last.

    >>> name_files(["/in/a.nc", "/in/b.nc", "/in/c.nc"]), name_files(["/in/a.nc"])
    ('3 files (a.nc … c.nc)', '1 file (a.nc)')
    """
    names = shorten([*paths[:1], *paths[1:][-1:]]) or ["none"]
    return f"{plural(len(paths), 'file')} ({' … '.join(names)})"


def list_lines(differences: Iterable[Difference], *, height: int | None, width: int) -> list[str]:
    """Return lines that take at most `height` rows of `width` columns: what differs, then what to do.

    Without a height, all that differs is named.
    """
    rows = list(differences)
    facts = [
        Fact.of("object", row.variable or "files", f"{row.what}{row.files and f'; in {row.files}'}") for row in rows
    ]
    remarks, advice = group_facts(facts), list_actions(rows)
    if height is None:
        return [*(f"differs: {remark.describe(len(remark.facts), NO_SCREEN)}" for remark in remarks), *advice]
    advice = advice[:MAX_ACTIONS]
    used = sum(count_rows(line, width) for line in (*advice, ALL))
    shown = fit_sections([Section("differs", remarks)], height=height - used, width=width)
    return [*shown, *([ALL] if len(shown) < len(remarks) else []), *advice]


def list_actions(rows: Sequence[Difference]) -> list[str]:
    """Return what to do about differences, and about which variables where these differ in several ways.

    >>> found = Findings(FileNames(["0.nc", "1.nc"]))
    >>> for name in ("/a", "/b"):
    ...     found.refuse(name, "values differ", [1], action=f"exclude=[{name!r}] leaves it out")
    >>> list_actions(found.rows), list_actions(found.rows[:1])
    (["what to do: exclude=['PATH'] leaves it out"], ["what to do: exclude=['/a'] leaves it out"])
    >>> found.refuse("/c", "types differ", [1], action="promote=True makes all float64")
    >>> list_actions(found.rows[1:])
    ["what to do: /b: exclude=['/b'] leaves it out", 'what to do: /c: promote=True makes all float64']
    """
    by_form: dict[str, list[Difference]] = {}
    for row in rows:
        by_form.setdefault(PATHS.sub("exclude=['PATH']", row.action), []).append(row)
    lines = []
    for form, alike in by_form.items():
        variables = list(dict.fromkeys(row.variable or "files" for row in alike))
        names = f"{', '.join(variables[:MAX_RANGES])}{', …' if variables[MAX_RANGES:] else ''}: "
        lines.append(
            f"what to do: {names if by_form.keys() - {form} else ''}{form if variables[1:] else alike[0].action}"
        )
    return lines


def is_terminal() -> bool:
    """Return whether what is printed is read on a screen."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def refuse_differences(differences: Sequence[Difference]) -> H5BoundError:
    """Return the error for the differences that are refused, which are all in its `differences`.

    It is an OptionError if options decide all of them, else an UnsupportedError.
    """
    refused = [item for item in differences if item.kind == "refused"]
    width = max(shutil.get_terminal_size((SCREEN_WIDTH, SCREEN_ROWS)).columns, SCREEN_WIDTH)
    lines = list_lines(refused, height=SCREEN_ROWS - 2 if is_terminal() else None, width=width)
    kind = OptionError if all(item.option for item in refused) else UnsupportedError
    error: Any = kind("\n".join([f"the files cannot be joined: {plural(len(refused), 'difference')}", *lines]))
    error.differences = tuple(refused)
    return cast("H5BoundError", error)
