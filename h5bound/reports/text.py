"""Words of the text forms: counts, sizes and names."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_NAMES = 4
"""Files that a line names where there may be any number."""

SCREEN_ROWS, SCREEN_WIDTH = 22, 80
"""Size of what a text form takes: a screen, with room for the command before it and the prompt after it."""

PLURAL_END = re.compile(r"(?= of | as | in | with |$)")
"""Where the word of a noun ends that has a plural."""


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "array"), plural(2_000, "array"), plural(2, "dataset of sequences"), plural(2, "attribute as text")
    ('1 array', '2,000 arrays', '2 datasets of sequences', '2 attributes as text')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {PLURAL_END.sub('s', noun, count=1)}"


def format_nbytes(nbytes: int) -> str:
    """Return a size in units of 1024 bytes.

    >>> format_nbytes(0), format_nbytes(1536), format_nbytes(3 * 2**30)
    ('0 B', '1.5 KiB', '3.0 GiB')
    """
    if nbytes < 1024:
        return f"{nbytes} B"
    size = float(nbytes)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:,.1f} PiB"


def printable(text: str) -> str:
    r"""Return text with escapes for control characters and for characters that a terminal cannot encode.

    >>> printable("a\nb\udcff")
    'a\\nb\\udcff'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def cut(text: str, width: int) -> str:
    """Return printable text of at most `width` characters: the middle of a longer one is left out.

    >>> cut("/entry/instrument/detector/data", 20)
    '/entry/in…ector/data'
    """
    if len(text) <= width:
        return text
    return f"{text[: (width - 1) // 2]}…{text[-(width // 2) :]}"


def fold_phrases(line: str, width: int) -> list[str]:
    """Return a line cut after semicolons into lines that fit, where that is possible.

    >>> fold_phrases("1 array, 1 group; 8 B stored; complete", 30)
    ['1 array, 1 group; 8 B stored;', 'complete']
    """
    lines = [""]
    for phrase in line.split("; "):
        joined = f"{lines[-1]}; {phrase}" if lines[-1] else phrase
        if lines[-1] and len(joined) >= width:
            lines[-1] += ";"
            lines.append(phrase)
        else:
            lines[-1] = joined
    return lines


def count_rows(line: str, width: int) -> int:
    """Return the rows that a line takes on a terminal.

    >>> count_rows("", 80), count_rows("x" * 81, 80), count_rows("値" * 41, 80)
    (1, 2, 2)
    """
    columns = len(line) + sum(east_asian_width(character) in "WF" for character in line)
    return max(1, -(-columns // width), len(wrap(line, width)))


def name_first(names: Sequence[str], count: int = 3) -> str:
    """Return the first of some names.

    >>> name_first(["a", "b"]), name_first("abcd")
    ('a, b', 'a, b, c, …')
    """
    return ", ".join([*names[:count], *(["…"] if len(names) > count else [])])


def name_some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many there are if that is not all.

    >>> name_some(["a.h5", "b.h5"]), name_some([f"{i}.h5" for i in range(20)])
    ('a.h5, b.h5', '0.h5, 1.h5, 2.h5, … (20 in all)')
    """
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{name_first(names, MOST_NAMES - 1)} ({len(names):,} in all)"
