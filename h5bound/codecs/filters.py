"""From an HDF5 filter pipeline to what undoes it: decoders for h5bound, codecs for Zarr; one table.

HDF5 applies the filters of a pipeline in order when it writes and undoes them in reverse when it reads; bit i of
a chunk's filter mask says that filter i was skipped for that chunk (HDF5 File Format Specification, "Filter
Pipeline Message" and "Version 1 B-trees"). Where Zarr has a codec that undoes a filter exactly, the table names
it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from h5bound.buffers import Bytes, DamagedError, Rows
from h5bound.codecs.decoders import (
    FilterInput,
    blosc_sizes,
    join_bitshuffle,
    join_lz4,
    undo_bitshuffle,
    undo_blosc,
    undo_bzip2,
    undo_deflate,
    undo_fletcher32,
    undo_lz4,
    undo_lzf,
    undo_shuffle,
    undo_szip,
    undo_zstd,
    unshuffle,
)
from h5bound.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of a pipeline."""

    id: int
    """Number in the registry of HDF5 filters."""
    flags: int
    """1 if the filter is optional, else 0."""
    options: tuple[int, ...]
    """Its client data, unsigned 32-bit numbers."""
    name: str
    """The name stored with it, often empty."""


Config: TypeAlias = dict[str, Any]
"""A codec as Zarr's metadata spell it."""


def name_zlib(options: tuple[int, ...], zarr_format: int) -> Config:
    """Give the codec that reads HDF5's deflate, which writes zlib streams."""
    return numcodec("zlib", zarr_format, level=level_of(options, 1))


def name_shuffle(options: tuple[int, ...], zarr_format: int) -> Config:
    """Give the codec that reads HDF5's shuffle, of a whole number of elements."""
    return numcodec("shuffle", zarr_format, elementsize=options[0])


def name_fletcher32(_options: tuple[int, ...], zarr_format: int) -> Config:
    """Give the codec that reads HDF5's fletcher32."""
    return numcodec("fletcher32", zarr_format)


def name_bzip2(options: tuple[int, ...], zarr_format: int) -> Config:
    """Give the codec that reads the bzip2 plugin's streams."""
    return numcodec("bz2", zarr_format, level=level_of(options, 9))


def name_zstd(options: tuple[int, ...], zarr_format: int) -> Config:
    """Give the codec that reads the Zstandard plugin's frames."""
    level = level_of(options, 3)
    if zarr_format == 2:
        return {"id": "zstd", "level": level}
    return {"name": "zstd", "configuration": {"level": level, "checksum": False}}


def name_blosc(options: tuple[int, ...], zarr_format: int) -> Config:
    """Give the codec that reads the Blosc plugin's buffers, which say themselves how they were made."""
    _, _, typesize, _, level, shuffle, packer = (*options, *(0, 0, 1, 0, 5, 1, 0)[len(options) :])
    settings = {"cname": BLOSC_PACKERS[packer], "clevel": level, "blocksize": 0}
    if zarr_format == 2:
        return {"id": "blosc", "shuffle": shuffle, **settings}
    shuffled = ("noshuffle", "shuffle", "bitshuffle")[shuffle]
    return {"name": "blosc", "configuration": {"typesize": typesize, "shuffle": shuffled, **settings}}


BLOSC_PACKERS = {0: "blosclz", 1: "lz4", 2: "lz4hc", 4: "zlib", 5: "zstd"}
"""Blosc's compressors by the plugin's seventh client data value; numcodecs is built without 3, snappy."""


def numcodec(name: str, zarr_format: int, **settings: int) -> Config:
    """Give a numcodecs codec, as version 2 or 3 of Zarr spells it."""
    if zarr_format == 2:
        return {"id": name, **settings}
    return {"name": f"numcodecs.{name}", "configuration": settings}


def level_of(options: tuple[int, ...], default: int) -> int:
    """Give the compression level that a filter was set to; reading does not depend on it."""
    return options[0] if options and 0 <= options[0] <= 22 else default


@dataclass(frozen=True, slots=True)
class FilterSpec:
    """One row of the table: a filter that h5bound undoes itself."""

    name: str
    """what people call it"""
    undo: Callable[[FilterInput], Bytes]
    """the decoder"""
    grows: int | None
    """how many bytes it adds when it is applied; None for a compressor, whose output has any size"""
    options: int = 0
    """how many client data values the decoder reads"""
    codec: Callable[[tuple[int, ...], int], Config] | None = None
    """gives Zarr's codec for its client data values and a Zarr version; None if Zarr has none"""
    library: str | None = None
    """the module that an extra installs for it"""
    sizes: Callable[[Rows, NDArray[np.int64]], NDArray[np.int64]] | None = None
    """gives what chunks decode to in HDF5, or fail to, from their first bytes and how many are stored of each"""
    join: Callable[[Sequence[Bytes], int, tuple[int, ...]], Bytes | None] | None = None
    """gives what the filter would have made of several chunks as one, from their size before it and its options"""


FILTERS = {
    1: FilterSpec("deflate", undo_deflate, None, codec=name_zlib),
    2: FilterSpec("shuffle", undo_shuffle, 0, 1, codec=name_shuffle),
    3: FilterSpec("fletcher32", undo_fletcher32, 4, codec=name_fletcher32),
    4: FilterSpec("szip", undo_szip, None, 4, library="imagecodecs"),
    307: FilterSpec("bzip2", undo_bzip2, None, codec=name_bzip2),
    32000: FilterSpec("lzf", undo_lzf, None, library="imagecodecs"),
    32001: FilterSpec("blosc", undo_blosc, None, codec=name_blosc, sizes=blosc_sizes),
    32004: FilterSpec("lz4", undo_lz4, None, join=join_lz4),
    32008: FilterSpec("bitshuffle", undo_bitshuffle, None, 4, library="imagecodecs", join=join_bitshuffle),
    32015: FilterSpec("zstd", undo_zstd, None, codec=name_zstd),
}
"""The table, by filter number as registered with The HDF Group (hdf5_plugins, RegisteredFilterPlugins)."""

GROWTH = 1 << 16
"""Bytes by which a compressor may make a chunk larger, beside doubling it."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """What undoes one pipeline."""

    nbytes: int
    """the size of a decoded chunk"""
    steps: tuple[tuple[FilterSpec, tuple[int, ...]], ...]
    """the filters in the order in which they were applied, with their client data values"""

    def decode(self, stored: Bytes, out: Bytes, mask: int = 0) -> None:
        """Decode one chunk into `out`, which has `nbytes` bytes; `stored` may be written to, and is left as it was.

        Bit i of `mask` says that filter i was skipped. One more buffer of the chunk's size is taken for each
        filter but the last one to be undone.

        Raises
        ------
        DamagedError
            The bytes do not decode to `nbytes` bytes, or a checksum does not agree.
        """
        left = self._applied(mask)
        data = stored
        while left:
            kind, options, nbytes = left.pop()
            try:
                data = kind.undo(FilterInput(data, nbytes, None if left else out, options, self._limit))
            except DamagedError as error:
                raise DamagedError(f"{kind.name}: it {error}") from error.__cause__
        self._check(data)
        if data is not out:
            out[:] = data

    def decode_all(self, stored: Sequence[Bytes], out: Rows, mask: int = 0) -> None:
        """Decode chunks of one filter mask, each into a row of `out`: one filter of all, then the next.

        Raises
        ------
        DamagedError
            As `decode` does, but for the name of the filter.
        """
        left = self._applied(mask)
        data = stored
        while left:
            kind, options, nbytes = left.pop()
            if kind.undo is undo_shuffle and not left:
                for chunk in data:
                    self._check(chunk)
                unshuffle(np.concatenate(data).reshape(out.shape), out, options[0])
                return
            joined = kind.join(data, nbytes, options) if kind.join is not None and nbytes > 0 else None
            if joined is None:
                data = [kind.undo(FilterInput(chunk, nbytes, None, options, self._limit)) for chunk in data]
            else:
                data = np.split(kind.undo(FilterInput(joined, nbytes * len(data), None, options)), len(data))
        for chunk in data:
            self._check(chunk)
        np.concatenate(data, out=out.reshape(-1))

    @property
    def compresses(self) -> bool:
        """Whether what is stored of a chunk is of any size."""
        return any(kind.grows is None for kind, _ in self.steps)

    @property
    def tells_sizes(self) -> bool:
        """Whether a chunk's decoded size is known before: if a filter compresses it is the last one, and says so."""
        before, last = self.steps[:-1], self.steps[-1:]
        return all(kind.grows is not None for kind, _ in before) and all(
            kind.grows is not None or kind.sizes is not None for kind, _ in last
        )

    def are_whole(self, heads: Rows, stored: NDArray[np.int64]) -> bool:
        """Tell whether chunks that all filters were applied to decode to their declared size, where `tells_sizes`.

        Parameters
        ----------
        heads
            The first bytes of each.
        stored
            How many are stored of each.
        """
        given, sizes = self.nbytes, stored
        for kind, _ in self.steps:
            if kind.grows is not None:
                given += kind.grows
            elif kind.sizes is not None:
                sizes = kind.sizes(heads, stored)
        return bool((sizes == given).all())

    @property
    def _limit(self) -> int:
        """The most bytes that a compressor may have made of a chunk, or been given."""
        return 2 * self.nbytes + GROWTH

    def _applied(self, mask: int) -> list[tuple[FilterSpec, tuple[int, ...], int]]:
        """Give the filters that were applied, with their options and the bytes that each was given."""
        applied, nbytes = [], self.nbytes
        for i, (kind, options) in enumerate(self.steps):
            if not mask >> i & 1:
                applied.append((kind, options, nbytes))
                nbytes = -1 if nbytes < 0 or kind.grows is None else nbytes + kind.grows
        return applied

    def _check(self, data: Bytes) -> None:
        if data.size != self.nbytes:
            raise DamagedError(f"it decodes to {data.size} bytes where {self.nbytes} are declared")


def make_decoder(filters: tuple[Filter, ...], nbytes: int) -> Decoder:
    """Give the decoder of a pipeline for chunks of `nbytes` bytes.

    Raises
    ------
    UnsupportedError
        A filter is not in the table, its library is not installed, or it is set in a way that is left to
        HDF5; such data are to be read through h5py.
    """
    steps = []
    packed = False
    for entry in filters:
        kind = FILTERS.get(entry.id)
        if kind is None:
            raise UnsupportedError(f"filter {entry.id} ({entry.name}) is undone by HDF5 only")
        if kind.library and importlib.util.find_spec(kind.library) is None:
            raise UnsupportedError(f"filter {kind.name} needs {kind.library}, which is not installed")
        if has_unusual_settings(entry, nbytes):
            raise UnsupportedError(f"filter {kind.name} with the settings {entry.options} is left to HDF5")
        if packed and kind.grows is None and kind.name != "deflate":
            raise UnsupportedError(f"filter {kind.name} after another compressor is left to HDF5")
        packed = packed or kind.grows is None
        steps.append((kind, entry.options))
    return Decoder(nbytes, tuple(steps))


def has_unusual_settings(entry: Filter, nbytes: int) -> bool:
    """Tell whether a filter of the table has client data values that its decoder is not made for."""
    name, options = FILTERS[entry.id].name, entry.options
    if len(options) < FILTERS[entry.id].options:
        return True
    if name == "deflate":  # HDF5 refuses any other
        return len(options) != 1 or options[0] > 9
    if name == "shuffle":
        return len(options) != 1 or not 0 < options[0] <= nbytes
    if name == "bitshuffle":
        return not 0 < options[2] <= nbytes or options[3] % 8 != 0 or (*options, 0)[4] not in (0, 2, 3)
    return name == "blosc" and len(options) > 6 and options[6] not in BLOSC_PACKERS


def translate_codecs(
    filters: tuple[Filter, ...], nbytes: int, *, zarr_format: int
) -> tuple[tuple[Config, ...] | None, str]:
    """Give the Zarr codecs that read HDF5's stored chunks as they are, or None and the reason.

    They are byte to byte, in the order of writing: in version 3 what follows the ``bytes`` codec, which has the
    byte order; in version 2 the filters and, last, the compressor. Every chunk has to have been stored through
    the whole pipeline: one with a filter mask, or an unfiltered edge chunk, is not read by them.

    Parameters
    ----------
    filters
        The pipeline.
    nbytes
        The size of a decoded chunk.
    zarr_format
        2 or 3. The specification of version 3 has only ``blosc`` of these; zarr-python 3.1 warns
        (`ZarrUserWarning`) of the ``numcodecs.`` ones, in either version, 3.4 does not.

    Examples
    --------
    >>> pass
    >>> gzip = (Filter(2, 1, (4,), "shuffle"), Filter(1, 1, (6,), "deflate"))
    >>> translate_codecs(gzip, 4096, zarr_format=2)
    (({'id': 'shuffle', 'elementsize': 4}, {'id': 'zlib', 'level': 6}), '')
    """
    codecs: list[Config] = []
    size = nbytes
    for entry in filters:
        kind = FILTERS.get(entry.id)
        if kind is None or kind.codec is None:
            return None, f"no Zarr codec reads what HDF5's filter {kind.name if kind else entry.id} writes"
        if has_unusual_settings(entry, nbytes):
            return None, f"no Zarr codec reads HDF5's filter {kind.name} with the settings {entry.options}"
        if kind.name == "shuffle" and (size < 0 or size % entry.options[0]):
            return None, "Zarr's shuffle takes whole elements only, and the bytes to shuffle are not"
        size = -1 if size < 0 or kind.grows is None else size + kind.grows
        codecs.append(kind.codec(entry.options, zarr_format))
    return tuple(codecs), ""
