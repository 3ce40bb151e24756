"""URLs and their options, and which parts of them may be shown."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from h5bound.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator


HIDDEN = "***"

SHORTEST_SECRET = 4
"""Shortest secret, in characters, that is searched for in messages of others: shorter ones occur in any text."""

USER = r"(?<=://)[^/?#]*@"
"""User and password: all between the slashes and the last @ before the path (RFC 3986, 3.2.1)."""

QUERY = r"(?s)[?#].*"

LINK = r"(?i)[a-z][a-z0-9+.-]*://[^\s'\"<>)\]]+"


@dataclass(frozen=True, slots=True)
class Address:
    """A URL for fsspec, perhaps a chain like ``simplecache::https://…``, and its options.

    Both may hold credentials: user and password before the host, a signature in the query, keys in the options.
    """

    shown: str = field(init=False)
    """URL for messages: ASCII, without user, query and fragment."""
    token: str = field(init=False)
    """Digest of the URL without users."""
    url: str = field(repr=False)
    """URL with its secrets."""
    options: Mapping[str, Any] = field(repr=False)
    """Options of fsspec."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shown", redact(self.url))
        digest = hashlib.blake2b(re.sub(USER, f"{HIDDEN}@", self.url).encode(errors="surrogateescape"), digest_size=16)
        object.__setattr__(self, "token", digest.hexdigest())

    def quote_safely(self, text: str) -> str:
        """Return another library's message in one line, "" if it holds a secret."""
        secrets = {*list_secrets(self.url), *list_texts(self.options)}
        spellings = {spelling for secret in secrets for spelling in (secret, quote(secret), unquote(secret))}
        shown = " ".join(redact_all(text).split())
        leaks = any(spelling in shown for spelling in spellings if len(spelling) >= SHORTEST_SECRET)
        return "" if leaks else shown


def is_url(location: object) -> bool:
    """Return whether this is a URL for fsspec that is not a local file.

    >>> is_url("s3://bucket/a.h5"), is_url("file:///data/a.h5"), is_url("a.h5")
    (True, False, False)
    """
    return isinstance(location, str) and "://" in strip_local(location)


def strip_local(name: str) -> str:
    """Return a local path without fsspec's prefix for local files."""
    return name.removeprefix("file://").removeprefix("local://")


def redact(url: str) -> str:
    """Return a URL as it may be shown.

    >>> redact("https://me:secret@host/a.h5?X-Amz-Signature=secret")
    'https://***@host/a.h5?***'
    >>> redact("zip://a.h5::ftp://me:secret@host/ü.zip?sig=secret")
    'zip://a.h5::ftp://***@host/%C3%BC.zip?***'
    """
    parts = (
        re.sub(QUERY, lambda match: f"{match[0][0]}{HIDDEN}", part)
        for part in re.sub(USER, f"{HIDDEN}@", url).split("::")
    )
    return quote_url("::".join(parts))


def quote_url(url: str) -> str:
    """Return a URL in ASCII."""
    return quote(url, safe="!#$%&'()*+,/:;=?@[]~", errors="surrogateescape")


def redact_all(text: str) -> str:
    """Return a text with each URL in it as it may be shown.

    >>> redact_all("GET 'https://host/a?sig=secret' failed")
    "GET 'https://host/a?***' failed"
    """
    return re.sub(LINK, lambda match: redact(match[0]), text)


def list_secrets(url: str) -> Iterator[str]:
    """Yield the secret parts of a URL, whole and in pieces.

    >>> sorted(list_secrets("https://me:pass@host/a?sig=abc&b"))
    ['abc', 'b', 'me', 'me:pass', 'pass', 'sig=abc&b']
    """
    for user in re.findall(USER, url):
        yield user[:-1]
        yield from user[:-1].split(":", 1)
    for part in url.split("::"):
        query = part.replace("#", "?").partition("?")[2]
        if query:
            yield query
            yield from (pair.rpartition("=")[2] for pair in query.replace("?", "&").split("&"))


def list_texts(value: Any) -> Iterator[str]:
    """Yield all texts in nested options.

    >>> sorted(list_texts({"key": "a", "client": {"token": "b", "anon": False}}))
    ['a', 'b']
    """
    if isinstance(value, (str, bytes)):
        yield value if isinstance(value, str) else value.decode("latin-1")
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from list_texts(item)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from list_texts(item)


def share_options(
    source: object,
    target: object,
    storage_options: Mapping[str, Any] | None,
    target_options: Mapping[str, Any] | None,
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Return the options of fsspec for the source and for the target: `storage_options` serve both if both are URLs.

    Raise OptionError if there are options, and no URL to use them.
    """
    if not (is_url(source) or is_url(target)):
        refuse_options(storage_options)
    if target_options is None and is_url(target):
        target_options = storage_options
    return storage_options if is_url(source) else None, target_options


def refuse_options(storage_options: Mapping[str, Any] | None) -> None:
    """Raise OptionError if there are options of fsspec for something that is not a URL."""
    if storage_options:
        raise OptionError("storage_options: these are for URLs that fsspec knows, and this is a local path")
