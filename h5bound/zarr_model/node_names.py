r"""HDF5 link name ↔ Zarr node name.

HDF5 allows names that a Zarr store cannot hold. An ordinary name is not changed; in any other, what must not stand is
written ``%XX``, and so is ``%`` itself. No two names of a group become one node name.

=======================================================  ======================  ==============================
name                                                     why                     where it is changed
=======================================================  ======================  ==============================
``..``, ``...``, ``a\b``, no name at all                 another path in Zarr    always
``zarr.json``, ``.zgroup``, and so on                    a metadata document     always
bytes that are not UTF-8                                 no JSON has them        always
more than 255 bytes                                      no file has it          as the target says
control characters                                       object stores           `NameLimits.controls`
``a:b``, ``a*``, ``nul``, ``com1.txt``, ``a.``, ``a␠``   Naming Files, Win32     `NameLimits.windows`
``A`` next to ``a``, text that is not NFC                one file                `NameLimits.folds`
``50%``, invisible characters, ``a.partial``             to be on the safe side  `PORTABLE` alone
=======================================================  ======================  ==============================

Names that begin with ``__`` are reserved by the Zarr 3 core specification (Node names), but are not changed:
zarr-python accepts them, and AnnData has its categories under one. A portable node name can be turned back unless it
ends in a hash. In an exact one ``%`` may stand for itself: a changed name is stored with the node.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import TYPE_CHECKING

from h5bound.hdf5.links import decode_name, encode_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


OWN_KEY = "h5bound.json"
"""Key of the document in which a store has its provenance, and details of its nodes."""

RESERVED_KEYS = frozenset(
    {"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata", OWN_KEY, "h5bound-unfinished.json"}
)

PARTIAL_SUFFIX = ".partial"
"""Suffix of a key that is being written, in a local store."""

DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?", re.DOTALL)
PLAIN = re.compile(r"[A-Za-z0-9_.\- ]*[A-Za-z0-9_\-]")
WINDOWS = frozenset('<>:"|?*')
INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp"})  # control, format, line ends
EMPTY = "%"
HASHED = "%~"


@dataclass(frozen=True, slots=True, kw_only=True)
class NameLimits:
    """What names a target cannot hold, beside those that Zarr cannot."""

    folds: bool = False
    """Names that differ only in case or Unicode normalization are one."""
    controls: bool = False
    """Control characters are refused."""
    windows: bool = False
    """What Windows forbids is refused or altered, and control characters."""
    longest: int = 1000
    """Most bytes of a name: keys of object stores have 1,024 with the path."""
    portable: bool = False
    """Any system is to hold them, and each name can be read from its node name."""


PORTABLE = NameLimits(folds=True, controls=True, windows=True, longest=255, portable=True)
"""Node names that every file system and object store holds; 255 is NAME_MAX of Linux and macOS."""


MOST_NBYTES = 140
"""Bytes of a name that every file system holds: encrypted ones hold 143 (eCryptfs)."""


class NodeNamer:
    """Names the nodes of groups for one target, which is asked for its limits at the first name that needs them."""

    def __init__(self, find_limits: Callable[[], NameLimits], *, portable: bool) -> None:
        self._find_limits, self._portable = find_limits, portable
        self.limits: NameLimits | None = None
        """What the target cannot hold; None if that has decided no name."""

    def __call__(self, names: Sequence[str]) -> dict[str, str]:
        """Return the node names of all names of a group."""
        if self._portable:
            return escape_siblings(names)
        exact = escape_siblings(names, NameLimits())
        if exact == escape_siblings(names, replace(PORTABLE, longest=MOST_NBYTES)):
            return exact
        self.limits = self.limits or self._find_limits()
        return escape_siblings(names, self.limits)


def escape(name: str | bytes, limits: NameLimits = PORTABLE) -> str:
    r"""Return the node name of a link in a Zarr store.

    In text, bytes that are not UTF-8 are lone surrogates (``surrogateescape``), as in h5py. Raise ValueError if a
    surrogate does not stand for a byte: HDF5 cannot have that name.

    >>> escape("temperature"), escape("zarr.json"), escape(".."), escape("a\\b"), escape(b"\xff")
    ('temperature', '%7Aarr.json', '.%2E', 'a%5Cb', '%FF')
    >>> escape("%mito: a?"), escape("%mito: a?", NameLimits()), escape("%mito\\a", NameLimits())
    ('%25mito%3A a%3F', '%mito: a?', '%25mito%5Ca')
    """
    text = decode_name(encode_name(name))
    escaped = _escape_text(text, limits, signs=limits.portable)
    if escaped != text and not limits.portable:
        escaped = _escape_text(text, limits, signs=True)
    return _shorten(escaped, text, limits.longest)


def escape_siblings(names: Iterable[str], limits: NameLimits = PORTABLE) -> dict[str, str]:
    """Return the node name of each name of one group; they differ for a target with these limits.

    If the target folds several names into one, one of them keeps its ordinary node name
    (the one without capitals, or else the first in byte order), and the others have their capitals escaped. The order
    of `names` does not matter, but they must be all names of the group.

    >>> escape_siblings(["Time", "time", "T"])
    {'Time': '%54ime', 'time': 'time', 'T': 'T'}
    >>> escape_siblings(["%41", "A", "a"], NameLimits(folds=True))
    {'%41': '%41', 'A': '%~559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd', 'a': 'a'}
    """
    node_names = {name: escape(name, limits) for name in names}
    fold: Callable[[str], str] = _fold if limits.folds else str
    if len(set(map(fold, node_names.values()))) == len(node_names):
        return node_names
    used: set[str] = set()

    def rank(name: str) -> tuple[bool, bool, bytes]:
        node_name = node_names[name]
        return node_name != name, fold(node_name) != node_name, encode_name(name)

    for name in sorted(node_names, key=rank):
        candidates = chain([node_names[name]], _list_others(name, limits))
        node_names[name] = next(one for one in candidates if fold(one) not in used)
        used.add(fold(node_names[name]))
    return node_names


def _list_others(name: str, limits: NameLimits) -> Iterator[str]:
    """Yield other node names of a name, without end."""
    yield _escape_case(name, limits)
    yield _escape_all(name, limits)
    for number in count():
        yield _hash(encode_name(name) + b"/" * number)


def _escape_text(text: str, limits: NameLimits, *, signs: bool) -> str:
    """Return a name with all escaped that these limits do not allow, and with `signs` also ``%``."""
    if not text:
        return EMPTY
    escaped = text
    if not PLAIN.fullmatch(text):
        harmful = frozenset("/\\\0" + "%" * signs) | (WINDOWS if limits.windows else frozenset())
        categories = {"Cs"} | (INVISIBLE if limits.portable else {"Cc"} if limits.controls or limits.windows else set())
        escaped = "".join(
            _quote(char) if char in harmful or unicodedata.category(char) in categories else char for char in text
        )
        if limits.folds and not unicodedata.is_normalized("NFC", escaped):
            escaped = "".join(char if char.isascii() else _quote(char) for char in escaped)
        if (escaped[-1] in ". " and limits.windows) or not escaped.strip("."):
            escaped = escaped[:-1] + _quote(escaped[-1])
    folded = _fold(escaped) if limits.folds else escaped
    device = limits.windows and DEVICES.fullmatch(_fold(escaped))
    if folded in RESERVED_KEYS or device or (limits.portable and folded.endswith(PARTIAL_SUFFIX)):
        escaped = _quote(escaped[0]) + escaped[1:]
    return escaped


def _escape_case(name: str, limits: NameLimits) -> str:
    """Escape the characters that folding changes."""
    escaped = re.sub(
        r"%..|[^%]",
        lambda part: part[0] if part[0][0] == "%" or _fold(part[0]) == part[0] else _quote(part[0]),
        _escape_text(name, limits, signs=True),
        flags=re.DOTALL,
    )
    # The last digit of an escape and a combining mark after it could fold into one character.
    if not unicodedata.is_normalized("NFC", escaped):
        return _escape_all(name, limits)
    return _shorten(escaped, name, limits.longest)


def _escape_all(name: str, limits: NameLimits) -> str:
    """Escape every byte but digits: no letter remains to be folded."""
    escaped = "".join(char if char in "0123456789" else _quote(char) for char in name) or EMPTY
    return _shorten(escaped, name, limits.longest)


def _shorten(escaped: str, name: str, longest: int) -> str:
    """Return an escaped name, or if it has too many bytes, its beginning and the SHA-256 of the name."""
    raw = escaped.encode("utf-8")
    if len(raw) <= longest:
        return escaped
    ending = _hash(encode_name(name))
    beginning = raw[: longest - len(ending)].decode("utf-8", "ignore")
    return re.sub("%.?$", "", beginning) + ending


def _hash(raw: bytes) -> str:
    return HASHED + hashlib.sha256(raw).hexdigest()


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
