"""A URL, and what of it and of its options may be shown."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterator


HIDDEN = "***"

SHORTEST = 4
"""Characters of what is looked for as a secret in the messages of others: less is in every message."""


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that fsspec knows, perhaps a chain like ``simplecache::https://…``, and the options that it needs.

    Either may hold credentials: user and password before the host, a signature in the query, keys in the options.
    """

    shown: str = field(init=False)
    """the URL as messages name it: ASCII, without user, query and fragment"""
    token: str = field(init=False)
    """equal for equal URLs whatever the user: a digest"""
    url: str = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shown", redact(self.url))
        digest = hashlib.blake2b(hide_users(self.url).encode(errors="surrogateescape"), digest_size=16)
        object.__setattr__(self, "token", digest.hexdigest())

    def tell(self, text: str, *more: Any) -> str:
        """Give what someone else says of the file, if no secret is in it; else nothing.

        Parameters
        ----------
        text
            A message of another library.
        more
            Options that were not passed but come from fsspec's configuration.
        """
        secrets = {*list_secrets(self.url), *list_texts(self.options), *list_texts(more)}
        spellings = {spelling for secret in secrets for spelling in (secret, quote(secret), unquote(secret))}
        shown = " ".join(redact_all(text).split())
        return "" if any(spelling in shown for spelling in spellings if len(spelling) >= SHORTEST) else shown


def is_url(location: object) -> bool:
    """Tell whether something is a URL for fsspec, and not of a local file.

    >>> is_url("s3://bucket/a.h5"), is_url("file:///data/a.h5"), is_url("a.h5")
    (True, False, False)
    """
    return isinstance(location, str) and "://" in strip_local(location)


def strip_local(name: str) -> str:
    """Give a local path without what fsspec puts before it."""
    return name.removeprefix("file://").removeprefix("local://")


USER = re.compile(r"(?<=://)[^/?#]*@")
"""User and password stand between the slashes and the last @ before the path (RFC 3986, 3.2.1)."""

QUERY = re.compile(r"[?#].*", re.DOTALL)

LINK = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>)\]]+", re.IGNORECASE)


def hide_users(url: str) -> str:
    """Give a URL without users and passwords.

    >>> hide_users("simplecache::ftp://me:secret@host/a.h5")
    'simplecache::ftp://***@host/a.h5'
    """
    return USER.sub(f"{HIDDEN}@", url)


def redact(url: str) -> str:
    """Give a URL as it may be shown.

    >>> redact("https://me:secret@host/a.h5?X-Amz-Signature=secret")
    'https://***@host/a.h5?***'
    >>> redact("zip://a.h5::https://host/ü.zip?sig=secret")
    'zip://a.h5::https://host/%C3%BC.zip?***'
    """
    parts = (QUERY.sub(lambda found: f"{found[0][0]}{HIDDEN}", part) for part in hide_users(url).split("::"))
    return quote_url("::".join(parts))


def quote_url(url: str) -> str:
    """Give a URL in ASCII."""
    return quote(url, safe="!#$%&'()*+,/:;=?@[]~", errors="surrogateescape")


def redact_all(text: str) -> str:
    """Give a text with every URL in it as it may be shown.

    >>> redact_all("GET 'https://host/a?sig=secret' failed")
    "GET 'https://host/a?***' failed"
    """
    return LINK.sub(lambda found: redact(found[0]), text)


def list_secrets(url: str) -> Iterator[str]:
    """Give the parts of a URL that are not to be shown, whole and piece by piece.

    >>> sorted(list_secrets("https://me:pass@host/a?sig=abc&b"))
    ['abc', 'b', 'me', 'me:pass', 'pass', 'sig=abc&b']
    """
    for user in USER.findall(url):
        yield user[:-1]
        yield from user[:-1].split(":", 1)
    for part in url.split("::"):
        query = part.replace("#", "?").partition("?")[2]
        if query:
            yield query
            yield from (pair.rpartition("=")[2] for pair in query.replace("?", "&").split("&"))


def list_texts(value: Any) -> Iterator[str]:
    """Give all texts in nested options.

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
