"""Words of the text forms: counts, sizes, names and lists."""

from __future__ import annotations

MAX_LISTED = 20
"""Most entries of one list in the text forms, which show only the number of the others."""


def format_list(title: str, lines: list[str]) -> list[str]:
    """Return indented lines for one list of a text form, cut off after `MAX_LISTED`."""
    shown = [f"  {title} {line}" for line in lines[:MAX_LISTED]]
    if len(lines) > MAX_LISTED:
        shown.append(f"  {title} … and {len(lines) - MAX_LISTED} more")
    return shown


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "array"), plural(2_000, "array")
    ('1 array', '2,000 arrays')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


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
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
