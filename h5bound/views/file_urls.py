"""URLs by which the readers of references find the files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from h5bound.combining.differences import shorten
from h5bound.errors import OptionError
from h5bound.files.local import LocalLocation
from h5bound.files.urls import QUERY, is_url, quote_url, redact, strip_local

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from h5bound.reader.source import H5Source

WEB = ("http://", "https://")
"""Beginnings of URLs in which names are percent-encoded; in those of buckets and files they stand as they are."""

SECRET = re.compile(r"://[^/@]*:[^/@]*@|[?#]")
"""What begins a password or a query in a URL."""

CACHES = ("simplecache", "filecache", "blockcache", "cached")
"""What fsspec may put before a URL, to read the same file."""


@dataclass(frozen=True, slots=True)
class FileUrls:
    """How files are named to readers."""

    names: Mapping[str, str]
    """Names of the files that are referred to below `base_url`, as the user knows them: they may be links."""
    folder: str
    """The folder of the first of them, in which there may be others that it leads to."""
    base_url: str | None
    """What stands for the folder that all are in; None for where the files are now."""

    @classmethod
    def of(cls, sources: Sequence[H5Source], paths: Sequence[Any], base_url: str | None) -> FileUrls:
        """Return the names for sources, and what the user passed for each; raise OptionError if `base_url` is odd."""
        if base_url is not None and (not isinstance(base_url, str) or not base_url):
            raise OptionError(f"base_url={base_url!r}: give a URL of a folder, like 's3://bucket/folder/'")
        if base_url is not None and is_url(base_url) and re.search(SECRET, base_url):
            raise OptionError(
                f"base_url={redact(base_url)!r}: there is a password or a query in it, which all would see; "
                "pass credentials to the readers"
            )
        typed = [
            os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else source.path
            for source, path in zip(sources, paths, strict=True)
        ]
        names = shorten(list(map(spell_path, typed)))
        folder = sources[0].path.replace(os.sep, "/").rpartition("/")[0]
        found = {source.path: name for source, name in zip(sources, names, strict=True)}
        return cls(names=found, folder=folder, base_url=base_url)

    def locate(self, file: H5Source) -> str | None:
        """Return the URL of a file, None if it is none that others can read, or not below the folder.

        Raise OptionError if there are secrets in the URL: they would be in all references.
        """
        is_local = isinstance(file.location, LocalLocation)
        if not file.is_fixed or not (is_local or file.remote):
            return None
        if self.base_url is None:
            return f"file://{file.path}" if is_local else find_url(file)
        path = file.path.replace(os.sep, "/") if is_local else file.path
        name = self.names.get(file.path) or path.removeprefix(f"{self.folder}/")
        if name == path:
            return None
        return f"{self.base_url.rstrip('/')}/{quote(name) if self.base_url.lower().startswith(WEB) else name}"


def find_url(file: H5Source) -> str | None:
    """Return the URL of a remote file, None if it is in an archive. Raise OptionError if there are secrets in it."""
    url = drop_caches(file.location.address.url)  # type: ignore[attr-defined]
    if "::" in url:
        return None
    if redact(url) != quote_url(url):
        raise OptionError(
            f"{redact(url)}: there is a password or a query in the URL, which would be in all references; pass "
            "base_url, the folder in which readers find the file"
        )
    return url


def drop_caches(url: str) -> str:
    """Return the URL of the file that a chain of fsspec's URLs leads to.

    >>> drop_caches("simplecache::s3://bucket/a.h5"), drop_caches("zip://a.h5::s3://bucket/b.zip")
    ('s3://bucket/a.h5', 'zip://a.h5::s3://bucket/b.zip')
    """
    first, chained, rest = url.partition("::")
    return drop_caches(rest) if chained and first.partition("://")[0] in CACHES else url


def spell_path(path: str) -> str:
    """Return a path or URL as its folders and its name are called, without what is no part of them.

    >>> spell_path("/data/x/a b.h5"), spell_path("simplecache::https://host/a%20b/1.h5?sig=a/b"), spell_path("s3://b/a%20b")
    ('/data/x/a b.h5', 'https://host/a b/1.h5', 's3://b/a%20b')
    """
    if not is_url(path):
        path = os.path.abspath(strip_local(os.path.expanduser(path)))  # noqa: PTH100, PTH111 - no links
        return path.replace(os.sep, "/")
    url = re.sub(QUERY, "", drop_caches(path).partition("::")[0]).rstrip("/")
    return unquote(url) if url.lower().startswith(WEB) else url
