"""What differs between files, as one table: which variable, what, in which files, and what to do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from h5bound.errors import OptionError, UnsupportedError
from h5bound.reports.remarks import Fact, Section, fit_sections, group_facts
from h5bound.reports.text import SCREEN_ROWS, SCREEN_WIDTH, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from h5bound.combining.joined import Difference
    from h5bound.errors import H5BoundError

MAX_RANGES = 3
"""Ranges of files that a row names."""


class FileNames:
    """The names of files, by their places in the final order."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.names = shorten(paths)

    def describe(self, places: Iterable[int]) -> str:
        """Return files as ranges.

        >>> names = FileNames([f"in/{name}.nc" for name in "abcdef"])
        >>> names.describe([1]), names.describe([0, 1, 2, 5])
        ('b.nc', 'a.nc … c.nc, f.nc (4 files)')
        """
        given = np.unique(np.fromiter(places, np.int64))
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


def shorten(paths: Sequence[str]) -> list[str]:
    """Return names of files without the folders that all have.

    >>> shorten(["/in/2020/a.nc", "/in/2021/a.nc"]), shorten(["/in/a.nc"])
    (['2020/a.nc', '2021/a.nc'], ['a.nc'])
    """
    split = [path.split("/") for path in paths]
    shortest = min(map(len, split), default=1) - 1
    common = 0
    while common < shortest and len({parts[common] for parts in split}) == 1:
        common += 1
    return ["/".join(parts[common:]) for parts in split]


def list_lines(differences: Iterable[Difference], *, height: int, width: int) -> list[str]:
    """Return lines that take at most `height` rows of `width` columns, for as many differences as fit."""
    titles = {"refused": "differs", "decided": "decided", "note": "note"}
    facts: dict[str, list[Fact]] = {title: [] for title in titles.values()}
    for item in differences:
        reason = "; ".join(filter(None, (item.what, item.files and f"in {item.files}", item.action)))
        facts[titles[item.kind]].append(Fact.of("variable", item.variable or "files", reason))
    sections = [Section(title, group_facts(given)) for title, given in facts.items()]
    return fit_sections(sections, height=height, width=width)


def refuse(differences: Sequence[Difference]) -> H5BoundError:
    """Return the error for the differences that are refused, which are all in its `differences`.

    It is an OptionError if options decide all of them, else an UnsupportedError.
    """
    refused = [item for item in differences if item.kind == "refused"]
    width = max(shutil.get_terminal_size((SCREEN_WIDTH, SCREEN_ROWS)).columns, SCREEN_WIDTH)
    lines = list_lines(refused, height=SCREEN_ROWS - 4, width=width)
    kind = OptionError if all(item.option for item in refused) else UnsupportedError
    error: Any = kind("\n".join([f"the files cannot be joined: {plural(len(refused), 'difference')}", *lines]))
    error.differences = tuple(refused)
    return cast("H5BoundError", error)
