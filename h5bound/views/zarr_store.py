"""An HDF5 file, or many that are joined, as a read-only Zarr store."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from h5bound.errors import shorten_tracebacks
from h5bound.hdf5.hierarchy import MAX_CHUNKS, MAX_DEPTH, MAX_OBJECTS
from h5bound.reports.html import render
from h5bound.reports.text import printable
from h5bound.views.key_plan import plan_keys
from h5bound.views.served_keys import SCHEME
from h5bound.views.view import View, make_options, plan_view_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from os import PathLike

    import h5py
    from zarr.abc.buffer import Buffer, BufferPrototype
    from zarr.abc.store import ByteRequest

    from h5bound.reader.source import H5Source
    from h5bound.reports.combination import CombinationReport
    from h5bound.reports.conversion import ConversionReport
    from h5bound.reports.digest import Digest
    from h5bound.views.key_plan import ViewOptions
    from h5bound.views.served_keys import ServedKeys

KEPT = 8
"""Stores that a process keeps which has received them, so that not every task of a worker plans its file anew."""


class ZarrStore(Store):
    """An HDF5 file, or many that are joined, as a read-only Zarr store, without a copy.

    Every key has the bytes that `convert`, or `combine`, writes with the same options. Stored chunks that Zarr can
    decode are read from the file as they are; all others are read and encoded when they are asked for. Files are open
    only meanwhile.

    Parameters
    ----------
    path
        The HDF5 file: a path, a URL that fsspec supports, or an open `h5py.File`. With `dim` a list of them, or text
        with ``*``, as for `combine`.
    dim
        The dimension along which many files are joined.
    zarr_format
        3 or 2.
    include, exclude
        Globs of paths to show or to hide, like ``"/entry/*"``.
    on_unsupported
        ``"raise"`` refuses a file with objects that Zarr cannot hold, ``"skip"`` leaves them out.
    links
        ``"keep"`` keeps soft links and further hard links as links, ``"copy"`` shows what they lead to in their place.
    nan
        ``"literal"`` or ``"text"``: the form of NaN and infinities in attributes.
    names
        ``"exact"`` keeps all names that Zarr can hold, ``"portable"`` renames what some file system could not.
    compounds
        ``"struct"`` or ``"columns"``, as for `convert`.
    allow_external
        Directories whose files may be read for external storage, virtual datasets and external links.
    storage_options
        Options passed to fsspec, such as credentials, where `path` is a URL.
    skip_bad
        True to leave out those of many files that cannot be read; the report lists them.
    max_open
        Most of many files that are open at a time; threads wait if all of these are being read. None for 64.
    progress
        As for `convert`: a function is called with the number of files that were scanned, and of all.
    max_objects, max_depth, max_chunks
        Refuse a file with more objects and links, deeper groups, or more chunks than this.
    **rules
        How many files are joined: `new_dim`, `sort`, `overlap`, `differing`, `attributes`, `unpack`, `promote` and
        `missing`, as for `combine`. The keys are those that `combine` writes.

    Attributes
    ----------
    report : ConversionReport or CombinationReport
        What is served as it is stored, what is encoded when it is read, what has another form, and what is left out.

    Raises
    ------
    UnsupportedError, UnsafeSourceError
        The file has objects that Zarr cannot hold; the message lists them.
    OptionError
        An option has an invalid value, or a glob matches nothing.
    SourceChangedError
        At any read: the file is no longer what it was when the store was made.
    CorruptChunkError
        At a read: the data of a chunk cannot be read.

    Examples
    --------
    >>> import h5py, tempfile, zarr
    >>> path = tempfile.mkdtemp() + "/a.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file["x"] = [1, 2, 3]
    >>> zarr.open_group(ZarrStore(path), mode="r")["x"][:]
    array([1, 2, 3])
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    @shorten_tracebacks
    def __init__(
        self,
        path: str | PathLike[str] | h5py.File | Sequence[str | PathLike[str] | h5py.File],
        *,
        dim: str | None = None,
        zarr_format: Literal[2, 3] = 3,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        on_unsupported: Literal["raise", "skip"] = "raise",
        links: Literal["keep", "copy"] = "keep",
        nan: Literal["literal", "text"] = "literal",
        names: Literal["exact", "portable"] = "exact",
        compounds: Literal["struct", "columns"] = "struct",
        allow_external: Sequence[str | PathLike[str]] = (),
        storage_options: Mapping[str, Any] | None = None,
        skip_bad: bool = False,
        max_open: int | None = None,
        progress: Callable[[int, int], None] | bool | None = None,
        max_objects: int = MAX_OBJECTS,
        max_depth: int = MAX_DEPTH,
        max_chunks: int = MAX_CHUNKS,
        **rules: Any,
    ) -> None:
        given = locals()
        checked = make_options(given)
        keys = plan_view_keys(given, checked)
        self.__setstate__((keys.sources[0], checked, keys))
        file = self._source.caller_file()
        if file is not None and file.mode != "r":
            from h5bound.views.overwrites import watch_writes  # with dask, which most views do without

            watch_writes(self, self._view)

    def __setstate__(self, state: tuple[H5Source, ViewOptions, ServedKeys | None]) -> None:
        super().__init__(read_only=True)
        self._source, self._options, keys = state
        if keys is not None:
            self._view = View(keys)

    @cached_property
    def _view(self) -> View:
        return View(plan_keys(self._source, self._options))

    async def _planned(self) -> View:
        """Return the view, made in a thread where that needs the loop of zarr."""
        return self._view if "_view" in self.__dict__ else await asyncio.to_thread(lambda: self._view)

    def __reduce__(self) -> tuple[Any, ...]:
        keys = None if self._options.rules is None else self._view.keys  # a worker would have to scan all files
        return find_store, (self._source, self._options, keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZarrStore) and self._token == other._token

    def __hash__(self) -> int:
        return hash(self._token)

    def __repr__(self) -> str:
        return str(self._digest()) if "_view" in self.__dict__ else f"<ZarrStore {self._source.path}>"

    def _repr_html_(self) -> str:
        return render(self._digest())

    def _digest(self) -> Digest:
        return replace(self.report.digest(), kind="ZarrStore", subject=printable(self._source.path))

    def __str__(self) -> str:
        return f"{SCHEME}{self._source.path}"

    @property
    def report(self) -> ConversionReport | CombinationReport:
        """What `convert` or `combine` would report, as far as it is known before anything is read."""
        return self._view.keys.combination or self._view.keys.report

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self._token

    @property
    def _token(self) -> tuple[Any, ...]:
        return "ZarrStore", self._source.key, self._options

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key, or a part of them; None if there is no such key."""
        return wrap(self._view.read(key, partial(find_interval, byte_range)), prototype)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key, or a part of them; None if there is no such key."""
        view = await self._planned()
        if key in view.keys.documents:
            return self.get_sync(key, prototype=prototype, byte_range=byte_range)
        found = view.keys.find_chunk(key)
        if found is None:
            return None
        read = partial(view.read_chunk, *found, partial(find_interval, byte_range))
        file = view.find_file(*found)
        if file.has_ranges and found[0].find_range(found[1]) is not None:
            return wrap(await asyncio.to_thread(read), prototype)
        file.begin()  # before a thread is free, so that the file is opened once for all chunks that zarr asks for
        try:
            return wrap(await asyncio.to_thread(read), prototype)
        finally:
            if file.is_shared:
                file.end()
            else:
                await asyncio.to_thread(file.end)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of the bytes of keys."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Return whether there is a key."""
        return key in (await self._planned()).keys.documents or (await self._planned()).keys.find_chunk(key) is not None

    async def getsize(self, key: str) -> int:
        """Return the number of bytes of a key; raise FileNotFoundError if there is none."""
        view = await self._planned()
        if key in view.keys.documents:
            return len(view.keys.documents[key])
        found = view.keys.find_chunk(key)
        if found is None:
            raise FileNotFoundError(key)
        return await asyncio.to_thread(view.measure, *found)

    async def getsize_prefix(self, prefix: str) -> int:
        """Return the number of bytes of all keys below a folder; chunks that are not served as stored are encoded."""
        return await asyncio.to_thread((await self._planned()).measure_all, prefix)

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        for key in (await self._planned()).keys.list_all():
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with a prefix."""
        for key in (await self._planned()).keys.list_all(prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names of keys and folders below a folder."""
        for name in (await self._planned()).keys.list_names(prefix):
            yield name

    def with_read_only(self, read_only: bool = False) -> ZarrStore:  # noqa: FBT001, FBT002 - zarr's
        """Return the store; raise ValueError if it is to be written to."""
        if not read_only:
            raise ValueError(f"{self}: an HDF5 file is not written to through Zarr")
        return self

    def close(self) -> None:
        """Close the file until the next read."""
        if "_view" in self.__dict__:
            self._view.close()
        super().close()

    async def set(self, key: str, value: Buffer) -> None:
        """Raise ValueError: the store is read-only."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Raise ValueError: the store is read-only."""
        self._check_writable()

    def set_sync(self, key: str, value: Buffer) -> None:
        """Raise ValueError: the store is read-only. Without it, zarr would not call `get_sync` either."""
        self._check_writable()

    def delete_sync(self, key: str) -> None:
        """Raise ValueError: the store is read-only."""
        self._check_writable()

    @property
    def _supports_sync_io(self) -> bool:
        """Whether zarr may read in as many threads as there are cores; requests to a server are more at once."""
        return not self._source.remote


def wrap(data: Any, prototype: BufferPrototype | None) -> Buffer | None:
    """Return bytes as a buffer of zarr."""
    from zarr.buffer import default_buffer_prototype

    if data is None:
        return None
    buffer = (prototype or default_buffer_prototype()).buffer
    return buffer.from_bytes(data) if isinstance(data, bytes) else buffer.from_array_like(data)


def find_interval(byte_range: ByteRequest | None, size: int) -> tuple[int, int]:
    """Return begin and end of a byte range of `size` bytes.

    >>> from zarr.abc.store import SuffixByteRequest
    >>> find_interval(None, 5), find_interval(SuffixByteRequest(2), 5)
    ((0, 5), (3, 5))
    """
    if byte_range is None:
        return 0, size
    if isinstance(byte_range, RangeByteRequest):
        return min(byte_range.start, size), min(byte_range.end, size)
    if isinstance(byte_range, OffsetByteRequest):
        return min(byte_range.offset, size), size
    if isinstance(byte_range, SuffixByteRequest):
        return max(size - byte_range.suffix, 0), size
    raise ValueError(f"Unexpected byte_range, got {byte_range}.")


_stores: weakref.WeakValueDictionary[Any, ZarrStore] = weakref.WeakValueDictionary()

_kept: deque[ZarrStore] = deque(maxlen=KEPT)


def find_store(source: H5Source, options: ViewOptions, keys: ServedKeys | None) -> ZarrStore:
    """Return the store of this process for a source and options, made anew if there is none.

    One file is planned at the first read: a worker must not fail to unpickle it. `keys` are those of many files.
    """
    key = source.key, options
    store = _stores.get(key)
    if store is None:
        store = ZarrStore.__new__(ZarrStore)
        store.__setstate__((source, options, keys))
        _stores[key] = store
        _kept.append(store)
    return store
