"""Stored bytes to block, outside HDF5's lock.

HDF5 reads and decodes under one lock for the whole process. `DatasetReader` asks HDF5 only where the stored
bytes are, reads them itself, and decodes them in the calling thread::

    region ─► stored chunks it meets ─► offset, nbytes, filter mask ─► pread ─► decode ─► block
                                        (a table, made once)         (no lock) (no lock)

This way is taken where it is proven to give what h5py gives: the type in the file is byte for byte the one in memory,
every filter is in the table of `h5bound.codecs.filters`, and the file is a local or remote one, open for reading only.
Failing the last, HDF5 hands over the stored bytes of chunks under its lock (`H5Dread_chunk`), and they are still
decoded outside it. All else is read by h5py.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import h5py
from h5py import h5d, h5t

from h5bound.errors import UnsupportedError
from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.dataset import read_filters
from h5bound.reader.allocation_guard import Guard, make_guard
from h5bound.reader.chunked import ChunkedReader, Fetched
from h5bound.reader.contiguous import ContiguousReader
from h5bound.reader.via_h5py import load_plugins, read_through_h5py

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from h5bound.buffers import Block, Region
    from h5bound.files.protocols import FileBytes


class DatasetReader:
    """Reads regions of one open dataset, from any number of threads.

    No descriptor is opened before the first read. Besides the block a read holds the stored bytes of one chunk,
    two chunks between filters (one if the pipeline has two; if it has one, none, or one for deflate and for bitshuffle
    that compresses), and one more where the block is not made of whole chunks. Of data that are stored in one piece
    it holds 512 KiB where the block has only parts of rows. Of a server 64 MiB of stored bytes are asked for at once.

    Parameters
    ----------
    dataset
        An open dataset; its file has to stay open until `close`.
    stored
        The bytes of its file, to share; by default the reader has a descriptor of its own, from the first read on.

    Attributes
    ----------
    way
        "direct", or "h5py" where every read goes through h5py.
    reason
        Why it goes through h5py; "" if it does not.
    """

    __slots__ = (
        "_asked",
        "_closed",
        "_dataset",
        "_direct",
        "_guard",
        "_is_remote",
        "_lock",
        "_uses",
        "reason",
        "strategy",
    )

    def __init__(self, dataset: h5py.Dataset, stored: FileBytes | None = None) -> None:
        self._dataset = dataset
        self._lock = threading.Lock()
        self._uses = 1  # its own, until it is closed
        self._closed = False
        self._asked = False
        self._is_remote = stored is not None and stored.is_remote
        self._direct: _Direct | None = None
        self._guard: Guard | None = None
        self.strategy, self.reason = "direct", ""
        try:
            self._direct = _choose(dataset, stored)
        except READ_ERRORS as error:
            self.strategy, self.reason = "h5py", str(error)
            self._guard = make_guard(dataset, stored)
            load_plugins(read_filters(dataset))

    def read(self, region: Region) -> Block:
        """Give what ``dataset[region]`` holds, as a new writable C-contiguous array.

        Parameters
        ----------
        region
            A slice for each axis with 0 <= start <= stop <= extent and no step. An array type adds its axes at
            the end; a scalar dataset gives an array of no dimensions.

        Raises
        ------
        CorruptChunkError
            A stored chunk does not decode to what is declared, or h5py refuses it.
        UnsafeSourceError
            Its values say that they are more than the file can hold.
        UnsupportedError
            A filter is not installed.
        ValueError
            The reader was closed.
        """
        with self._in_use():
            if self._direct is None or any(s.start == s.stop for s in region):
                self._check(region)
                return read_through_h5py(self._dataset, region)
            return self._direct.read(region)

    def read_via_h5py(self, region: Region) -> Block:
        """Give what h5py itself reads, after a read that makes sure of all sizes: HDF5 unpacks a bomb.

        From a server, or where HDF5 does not have a filter, it is what `read` gives.

        Parameters
        ----------
        region
            As for `read`.

        Raises
        ------
        CorruptChunkError, UnsafeSourceError, UnsupportedError, ValueError
            As `read` does.
        """
        block = self.read(region)
        with self._in_use():
            if self._direct is not None and not self._is_remote:
                if not self._asked:
                    load_plugins(read_filters(self._dataset))
                    self._asked = True
                with suppress(UnsupportedError):
                    return read_through_h5py(self._dataset, region)
        return block

    def check(self, region: Region) -> None:
        """Make sure that h5py can be asked for a region: that this would not take more memory than is declared.

        Raises
        ------
        CorruptChunkError
            A stored chunk does not decode to what is declared.
        UnsafeSourceError
            Its values say that they are more than the file can hold.
        """
        with self._in_use():
            self._check(region)

    def _check(self, region: Region) -> None:
        if self._guard is not None and all(s.start != s.stop for s in region):
            self._guard.check(region)

    def fetch(self, region: Region) -> Block | Fetched:
        """Give what `read` gives, or in less memory what that is decoded from, with no need of the file.

        Parameters
        ----------
        region
            As for `read`.

        Raises
        ------
        CorruptChunkError, UnsupportedError, ValueError
            As `read` does, but for chunks that cannot be decoded: `Fetched.decode` raises for them.
        """
        with self._in_use():
            if isinstance(self._direct, ChunkedReader) and all(s.start != s.stop for s in region):
                return self._direct.fetch(region)
        return self.read(region)

    def prefetch(self, regions: Sequence[Region]) -> None:
        """Take notice of regions that will be read, each once: what is stored of them is then asked for together."""
        with self._in_use():
            if self._direct is not None:
                self._direct.prefetch(regions)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise ValueError("the reader of this dataset is closed")
            self._uses += 1
        try:
            yield
        finally:
            self._leave()

    def close(self) -> None:
        """Let go of the dataset and the descriptor, once the last read under way has ended.

        May be called twice.
        """
        with self._lock:
            again, self._closed = self._closed, True
        if not again:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._uses -= 1
            last = not self._uses
        if last:
            self._let_go()

    def _let_go(self) -> None:
        for reader in (self._direct, self._guard):
            if reader is not None:
                reader.close()
        del self._dataset, self._direct, self._guard


class _Direct(Protocol):
    """A way to read that asks HDF5 for little."""

    def read(self, region: Region) -> Block:
        """Give the region, which is not empty."""

    def prefetch(self, regions: Sequence[Region]) -> None:
        """Take notice of regions that will be read, each once."""

    def close(self) -> None:
        """Drop what belongs to the file."""


def _choose(dataset: h5py.Dataset, stored: FileBytes | None) -> _Direct:
    """Give the way to read a dataset directly; raise UnsupportedError with the reason if there is none."""
    plist = dataset.id.get_create_plist()
    if dataset.is_virtual or plist.get_external_count() or dataset.shape is None:
        raise UnsupportedError("it has no data space, is virtual, or is stored in other files")
    if not _same_in_memory(dataset):
        raise UnsupportedError("its values take another form in memory than in the file")
    layout = plist.get_layout()
    if layout == h5d.CHUNKED:
        return ChunkedReader(dataset, stored)
    # With a user block HDF5 has an offset even of what was never written.
    if layout == h5d.CONTIGUOUS and dataset.id.get_storage_size():
        return ContiguousReader(dataset, stored)
    raise UnsupportedError("it is compact, or was never written")


def _same_in_memory(dataset: h5py.Dataset) -> bool:
    """Tell whether HDF5 copies the values as they stand, so that their bytes in the file are those in memory.

    h5py reads into `h5t.py_create(dtype)`. Where that drops an enumeration's names, the type as it would be written
    has the same bytes. Members of a compound have to be as they are read, else HDF5 leaves out the bytes between.
    """
    dtype = dataset.dtype
    if dtype.hasobject or not dtype.itemsize:
        return False
    stored = dataset.id.get_type()
    same = stored.equal(h5t.py_create(dtype))
    return bool(same or (dtype.names is None and stored.equal(h5t.py_create(dtype, logical=True))))
