r"""HDF5 link name ↔ Zarr node name.

Zarr keys and file systems forbid, reserve or fold together names that HDF5 allows. An ordinary name is not changed. In
any other, the forbidden bytes are written ``%XX``, and so is ``%`` itself. No two names become one node name, and every
node name can be turned back into its name:

=======================================================  ============================================
name                                                     why
=======================================================  ============================================
``..``, ``...``, ``a\b``, control characters             leaves the directory, or is another path
``zarr.json``, ``.zgroup``, and so on                    a metadata document of Zarr, or of h5bound
``zarr.json.partial``                                    a metadata document that is being written
``a:b``, ``a*``, ``nul``, ``com1.txt``, ``a.``, ``a␠``   not allowed on Windows (Naming Files, Win32)
bytes that are not UTF-8, text that is not NFC           altered or refused by some file systems
``A`` next to ``a``                                      one file on Windows and macOS
more than 255 bytes                                      no file system has it
=======================================================  ============================================

Names that begin with ``__`` are reserved by the Zarr 3 core specification (Node names), but are not changed:
zarr-python accepts them, and AnnData has its categories under one. Only node names of the last row cannot be turned
back: they end in a hash, and the name must be stored elsewhere.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING

from h5bound.hdf5.links import decode_name, encode_name

if TYPE_CHECKING:
    from collections.abc import Iterable


MAX_NBYTES = 255
"""Bytes in one component of a path (NAME_MAX of Linux and macOS)."""

RESERVED_KEYS = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata", "h5bound-unfinished.json"})

PARTIAL_SUFFIX = ".partial"
"""Suffix of a key that is being written, in a local store."""

DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?", re.DOTALL)
PLAIN = re.compile(r"[A-Za-z0-9_.\- ]*[A-Za-z0-9_\-]")
HARMFUL = frozenset('%/\\<>:"|?*')
HARMFUL_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # control, invisible, surrogate, line ends
EMPTY = "%"
HASHED = "%~"


def escape(name: str | bytes) -> str:
    r"""Return the node name of a link in a Zarr store.

    In text, bytes that are not UTF-8 are lone surrogates (``surrogateescape``), as in h5py. Raise ValueError if a
    surrogate does not stand for a byte: HDF5 cannot have that name.

    >>> escape("temperature"), escape("zarr.json"), escape(".."), escape("a\\b"), escape(b"\xff")
    ('temperature', '%7Aarr.json', '.%2E', 'a%5Cb', '%FF')
    """
    text = decode_name(encode_name(name))
    return _shorten(_escape_text(text), text)


def escape_siblings(names: Iterable[str]) -> dict[str, str]:
    """Return the node name of each name of one group; they differ even if case and normalization are ignored.

    If a file system may fold several names into one, one of them keeps its ordinary node name (the one without
    capitals, or else the first in byte order), and the others have their capitals escaped. The order of `names` does
    not matter, but they must be all names of the group.

    >>> escape_siblings(["Time", "time", "T"])
    {'Time': '%54ime', 'time': 'time', 'T': 'T'}
    """
    ordinary = {name: escape(name) for name in names}
    node_names = dict(ordinary)
    taken: set[str] = set()
    for name in sorted(ordinary, key=lambda name: (_fold(ordinary[name]) != ordinary[name], encode_name(name))):
        if _fold(node_names[name]) in taken:
            node_names[name] = _escape_case(name)
        if _fold(node_names[name]) in taken:
            node_names[name] = _escape_all(name)
        taken.add(_fold(node_names[name]))
    return node_names


def _escape_text(text: str) -> str:
    if not text:
        return EMPTY
    escaped = text
    if not PLAIN.fullmatch(text):
        escaped = "".join(
            _quote(char) if char in HARMFUL or unicodedata.category(char) in HARMFUL_CATEGORIES else char
            for char in text
        )
        if not unicodedata.is_normalized("NFC", escaped):
            escaped = "".join(char if char.isascii() else _quote(char) for char in escaped)
        if escaped[-1] in ". ":
            escaped = escaped[:-1] + _quote(escaped[-1])
    folded = _fold(escaped)
    if folded in RESERVED_KEYS or folded.endswith(PARTIAL_SUFFIX) or DEVICES.fullmatch(folded):
        escaped = _quote(escaped[0]) + escaped[1:]
    return escaped


def _escape_case(name: str) -> str:
    """Escape the characters that folding changes."""
    escaped = re.sub(
        r"%..|[^%]",
        lambda part: part[0] if part[0][0] == "%" or _fold(part[0]) == part[0] else _quote(part[0]),
        _escape_text(name),
        flags=re.DOTALL,
    )
    # The last digit of an escape and a combining mark after it could fold into one character.
    return _shorten(escaped, name) if unicodedata.is_normalized("NFC", escaped) else _escape_all(name)


def _escape_all(name: str) -> str:
    """Escape every byte but digits: no letter remains to be folded."""
    return _shorten("".join(char if char in "0123456789" else _quote(char) for char in name) or EMPTY, name)


def _shorten(escaped: str, name: str) -> str:
    """Return an escaped name, or if it is too long for a file system, its beginning and the SHA-256 of the name."""
    raw = escaped.encode("utf-8")
    if len(raw) <= MAX_NBYTES:
        return escaped
    ending = HASHED + hashlib.sha256(encode_name(name)).hexdigest()
    beginning = raw[: MAX_NBYTES - len(ending)].decode("utf-8", "ignore")
    return re.sub("%.?$", "", beginning) + ending


def _fold(node_name: str) -> str:
    """Return one text for all node names that some file system may take for the same.

    NTFS compares upper case, APFS by case folding, and both HFS+ and APFS regardless of normalization.
    """
    if node_name.isascii():
        return node_name.lower()
    upper = unicodedata.normalize("NFD", node_name.casefold()).upper()
    return unicodedata.normalize("NFC", upper.casefold())


def _quote(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in encode_name(text))
