r"""HDF5 link name ↔ Zarr path segment.

Zarr keys and file systems forbid, reserve or fold together names that HDF5 allows. An ordinary name stays as
it is. In any other, the bytes that give offence are written ``%XX``, and ``%`` itself with them, so that no
two names share a segment and every segment gives back its name:

=======================================================  ============================================
name                                                     why
=======================================================  ============================================
``..``, ``...``, ``a\b``, control characters             leaves the folder, or is another path
``zarr.json``, ``.zgroup``, and so on                    a document of Zarr, or of h5bound
``zarr.json.partial``                                    a document that is being written
``a:b``, ``a*``, ``nul``, ``com1.txt``, ``a.``, ``a␠``   no such file on Windows (Naming Files, Win32)
bytes that are not UTF-8, text that is not NFC           altered or refused by some file systems
``A`` beside ``a``                                       one file on Windows and macOS
more than 255 bytes                                      no file system has it
=======================================================  ============================================

A name that begins with ``__``, which the Zarr 3 core specification reserves (Node names), stays: zarr-python holds it,
and AnnData has its categories under one. Only the last row leaves the segment without its name: it ends in a hash, and
the name has to be kept elsewhere.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


MAX_NBYTES = 255
"""Bytes in one component of a path (NAME_MAX of Linux and macOS)."""

RESERVED_KEYS = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata", "h5bound-unfinished.json"})

PARTIAL_SUFFIX = ".partial"  # of a key that is being written, in a local store

DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?", re.DOTALL)

PLAIN = re.compile(r"[A-Za-z0-9_.\- ]*[A-Za-z0-9_\-]")

HARMFUL = frozenset('%/\\<>:"|?*')

HARMFUL_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # control, invisible, surrogate, line ends

EMPTY = "%"

HASHED = "%~"


def escape(name: str | bytes) -> str:
    r"""Give the path segment under which a link of this name stands in a Zarr store.

    Parameters
    ----------
    name
        As h5py gives it: bytes that are not UTF-8 are lone surrogates (``surrogateescape``).

    Raises
    ------
    ValueError
        The name has surrogates that stand for no byte; HDF5 has no such name.

    Examples
    --------
    >>> escape("temperature"), escape("zarr.json"), escape(".."), escape("a\\b"), escape(b"\xff")
    ('temperature', '%7Aarr.json', '.%2E', 'a%5Cb', '%FF')
    """
    text = _decode(name)
    return _shorten(_escape_text(text), text)


def unescape(segment: str) -> str:
    """Give the link name whose segment this is.

    Raises
    ------
    ValueError
        `escape` gives no such segment, or the name was too long to stand in it.

    Examples
    --------
    >>> unescape("%7Aarr.json")
    'zarr.json'
    """
    if segment == EMPTY:
        return ""
    if HASHED in segment:
        raise ValueError(f"the name of segment {segment!r} was too long to stand in it")
    if not re.fullmatch(r"(?:[^%]|%[0-9A-F]{2})+", segment, re.DOTALL):
        raise ValueError(f"{segment!r} is no escaped name: each % begins two upper-case hexadecimal digits")
    raw = re.sub(rb"%(..)", lambda found: bytes.fromhex(found[1].decode()), segment.encode("utf-8"))
    return _decode(raw)


def escape_siblings(names: Iterable[str]) -> dict[str, str]:
    """Give the segment of each name of one group, told apart also where case and normalization are not.

    Of names that a file system may fold into one, one keeps its ordinary segment (that without capitals, else
    the first in byte order) and the others have their capitals escaped. The order of `names` does not matter,
    but all the names of a group must be given at once.

    Examples
    --------
    >>> escape_siblings(["Time", "time", "T"])
    {'Time': '%54ime', 'time': 'time', 'T': 'T'}
    """
    ordinary = {name: escape(name) for name in names}
    segments: dict[str, str] = {}
    taken: set[str] = set()

    def rank(name: str) -> tuple[bool, bytes]:
        return _fold(ordinary[name]) != ordinary[name], name.encode("utf-8", "surrogateescape")

    for name in sorted(ordinary, key=rank):
        segment = ordinary[name]
        if _fold(segment) in taken:
            segment = _escape_case(name)
        if _fold(segment) in taken:
            segment = _escape_all(name)
        taken.add(_fold(segment))
        segments[name] = segment
    return {name: segments[name] for name in ordinary}


def _escape_text(text: str) -> str:
    if not text:
        return EMPTY
    if PLAIN.fullmatch(text):
        segment = text
    else:
        segment = "".join(_quote(char) if _is_harmful(char) else char for char in text)
        if not unicodedata.is_normalized("NFC", segment):
            segment = "".join(char if char.isascii() else _quote(char) for char in segment)
        if segment[-1] in ". ":
            segment = segment[:-1] + _quote(segment[-1])
    folded = _fold(segment)
    if folded in RESERVED_KEYS or folded.endswith(PARTIAL_SUFFIX) or DEVICES.fullmatch(folded):
        segment = _quote(segment[0]) + segment[1:]
    return segment


def _escape_case(name: str) -> str:
    """Escape the characters that folding changes, so that what is left unescaped is folded already."""
    segment = re.sub(
        r"%..|[^%]",
        lambda found: found[0] if found[0][0] == "%" or _fold(found[0]) == found[0] else _quote(found[0]),
        _escape_text(name),
        flags=re.DOTALL,
    )
    # An escape's last digit and a combining mark after it could fold into one character.
    return _shorten(segment, name) if unicodedata.is_normalized("NFC", segment) else _escape_all(name)


def _escape_all(name: str) -> str:
    """Escape every byte but digits, so that no letter is left to be folded."""
    return _shorten("".join(char if char in "0123456789" else _quote(char) for char in name) or EMPTY, name)


def _shorten(segment: str, name: str) -> str:
    """Give the segment, or its beginning and the name's SHA-256 where it is too long for a file system."""
    raw = segment.encode("utf-8")
    if len(raw) <= MAX_NBYTES:
        return segment
    ending = HASHED + hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    kept = raw[: MAX_NBYTES - len(ending)].decode("utf-8", "ignore")
    return re.sub("%.?$", "", kept) + ending


def _fold(segment: str) -> str:
    """Give one text for all segments that some file system may take for this one.

    NTFS compares upper-case, APFS by case folding, and both HFS+ and APFS regardless of normalization.
    """
    if segment.isascii():
        return segment.lower()
    upper = unicodedata.normalize("NFD", segment.casefold()).upper()
    return unicodedata.normalize("NFC", upper.casefold())


def _is_harmful(char: str) -> bool:
    return char in HARMFUL or unicodedata.category(char) in HARMFUL_CATEGORIES


def _quote(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape"))


def _decode(name: str | bytes) -> str:
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    return raw.decode("utf-8", "surrogateescape")
