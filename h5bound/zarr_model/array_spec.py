"""How the chunks of a Zarr array are encoded where they are not kept as HDF5 stored them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from h5py import h5z

from h5bound.codecs.filters import make_decoder, translate_codecs
from h5bound.errors import UnsupportedError
from h5bound.reader.via_h5py import load_plugins

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numcodecs.abc import Codec
    from numpy.typing import NDArray

    from h5bound.chunk_grid import Shape
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.zarr_model.dtypes import ZarrType
    from h5bound.zarr_model.fill_values import FillValue


CODECS = {"blosc-zstd": 5, "blosc-lz4": 5, "zstd": 3, "gzip": 5, "none": 0}
"""What `codecs` may name, with the level where none is given."""

NUMCODECS = ("zlib", "shuffle", "fletcher32", "bz2")

WRITTEN_CODECS = frozenset(
    {"bytes", "vlen-utf8", "blosc", "zstd", "gzip", "sharding_indexed", "crc32c", *NUMCODECS}
    | {f"numcodecs.{name}" for name in NUMCODECS}
)
"""All codecs that h5bound writes, in either format; `pickle`, which runs whatever it decodes, is none of them."""

BLOSC_LIMIT = 2**31 - 16
"""Bytes that Blosc can take at once (BLOSC2_MAX_BUFFERSIZE)."""


@dataclass(frozen=True, slots=True)
class CodecChain:
    """How the chunks of one array are encoded, as the store's format spells it."""

    filters: tuple[Mapping[str, Any], ...]
    """v2: numcodecs configurations; v3: array-to-array codecs"""
    serializer: Mapping[str, Any] | None
    """v3: the array-to-bytes codec; None for what suits the data type, and in v2"""
    compressors: tuple[Mapping[str, Any], ...]
    """v3: bytes-to-bytes codecs; v2: the compressor, if any"""


def check_codecs(document: Mapping[str, Any]) -> None:
    """Refuse an array with a codec that h5bound does not write, before anything looks the codec up.

    Raises
    ------
    ValueError
        It has one.

    Examples
    --------
    >>> check_codecs({"filters": [{"id": "vlen-utf8"}], "compressor": {"id": "pickle"}})
    Traceback (most recent call last):
    ValueError: codec 'pickle' is none that h5bound writes
    """
    for name in list_codecs(document):
        if name not in WRITTEN_CODECS:
            raise ValueError(f"codec {name!r} is none that h5bound writes")


def list_codecs(document: Mapping[str, Any]) -> Iterator[str]:
    """Give the names of an array's codecs, those within others too."""
    found = [*(document.get("filters") or ()), document.get("compressor"), *document.get("codecs", ())]
    for item in found:
        if isinstance(item, str):
            yield item
        elif item is not None:
            yield item.get("id", item.get("name"))
            for inner in ("codecs", "index_codecs"):
                yield from list_codecs({"codecs": item.get("configuration", {}).get(inner, ())})


def parse_codec(text: str) -> tuple[str, int | None]:
    """Give name and level of a codec like ``zstd:3``.

    Raises
    ------
    ValueError
        There is no such codec; the message lists them.

    Examples
    --------
    >>> parse_codec("zstd:3"), parse_codec("none")
    (('zstd', 3), ('none', None))
    """
    name, _, level = text.partition(":")
    if name not in CODECS or (level and not level.lstrip("-").isdigit()):
        names = ", ".join(CODECS)
        raise ValueError(f"codecs={text!r}: use keep, or one of {names}, with a level like zstd:3")
    return name, int(level) if level else None


def plan_chain(codecs: str, dtype: np.dtype[Any], endian: str, chunks: tuple[int, ...], zarr_format: int) -> CodecChain:
    """Give the codecs of an array that is encoded anew: as asked for, or Blosc's zstd with shuffle.

    Parameters
    ----------
    codecs
        Like ``zstd:3``; ``keep`` where nothing was asked for.
    dtype
        Of the elements.
    endian
        Byte order in the store, little or big.
    chunks
        Shape of a chunk.
    zarr_format
        2 or 3.
    """
    name, level = parse_codec("blosc-zstd" if codecs == "keep" else codecs)
    if prod(chunks) * dtype.itemsize > BLOSC_LIMIT and name.startswith("blosc"):
        name, level = "zstd", None
    level = CODECS[name] if level is None else level
    if zarr_format == 2:
        filters = ({"id": "vlen-utf8"},) if dtype.kind == "T" else ()
        return CodecChain(filters, None, tuple(compressor_v2(name, level)))
    return CodecChain((), serializer(dtype, endian), tuple(compressor_v3(name, level, dtype)))


def serializer(dtype: np.dtype[Any], endian: str) -> Mapping[str, Any] | None:
    """Give the v3 codec that makes bytes of numbers; None for types that have no byte order of their own."""
    if dtype.kind not in "iufcmM" or dtype.itemsize == 1:
        return None
    return {"name": "bytes", "configuration": {"endian": endian}}


def compressor_v2(name: str, level: int) -> list[Mapping[str, Any]]:
    """Give the numcodecs configuration of a codec, none for ``none``."""
    if name == "none":
        return []
    if name.startswith("blosc"):
        return [{"id": "blosc", "cname": name[6:], "clevel": level, "shuffle": -1}]
    return [{"id": name, "level": level}]


def compressor_v3(name: str, level: int, dtype: np.dtype[Any]) -> list[Mapping[str, Any]]:
    """Give the v3 configuration of a codec, none for ``none``."""
    if name == "none":
        return []
    if name.startswith("blosc"):
        size = 1 if dtype.kind == "T" else dtype.itemsize
        shuffle = "shuffle" if 1 < size < 256 else "noshuffle"  # a longer type size is taken for 1 (blosc.h)
        options = {
            "cname": name[6:],
            "clevel": level,
            "shuffle": shuffle,
            "typesize": size if size < 256 else 1,
        }
        return [{"name": "blosc", "configuration": {**options, "blocksize": 0}}]
    options = {"level": level, "checksum": False} if name == "zstd" else {"level": level}
    return [{"name": name, "configuration": options}]


def make_codecs(chain: CodecChain, dtype: np.dtype[Any]) -> list[Codec] | None:
    """Give numcodecs' codecs that encode a chunk as zarr does, but in the calling thread; None for what zarr must.

    zarr-python encodes in threads of its own and passes every chunk through one event loop: for chunks of 1 MB that
    takes half as long again.
    """
    from numcodecs import get_codec

    if dtype.kind == "T":
        return None
    configurations = []
    for item in chain.compressors:
        if "id" in item:
            configurations.append(dict(item))
            continue
        options = dict(item["configuration"])
        if item["name"] == "blosc":
            options = {"cname": options["cname"], "clevel": options["clevel"], "shuffle": -1}
        elif item["name"] not in ("zstd", "gzip"):
            return None
        configurations.append({"id": item["name"], **options})
    return [get_codec(configuration) for configuration in configurations] if not chain.filters else None


def encode_chunk(codecs: Sequence[Codec], block: NDArray[Any], fill: NDArray[Any], chunks: tuple[int, ...]) -> bytes:
    """Give the encoded bytes of a chunk, filled up where the array ends within it.

    Parameters
    ----------
    codecs
        Of `make_codecs`.
    block
        The elements that the array has.
    fill
        What stands behind the array's end, of the array's type.
    chunks
        Shape of a chunk.
    """
    whole = block
    if block.shape != chunks or block.dtype != fill.dtype:
        whole = np.full(chunks, fill, fill.dtype)
        whole[tuple(slice(0, size) for size in block.shape)] = block
    size = fill.dtype.itemsize
    cell = f"u{size}" if size in (1, 2, 4, 8) else fill.dtype
    data: Any = np.ascontiguousarray(whole).reshape(-1).view(cell)
    for codec in codecs:
        data = codec.encode(data)
    return bytes(data) if codecs else bytes(data.tobytes())


def chunk_nbytes(record: DatasetRecord) -> int:
    """Give the bytes of a decoded chunk; 0 where the dataset is not stored in chunks."""
    if record.chunks is None or record.dtype is None:
        return 0
    return prod(record.chunks) * record.dtype.itemsize


def translate_filters(record: DatasetRecord, kind: ZarrType, zarr_format: int) -> tuple[CodecChain | None, str]:
    """Give the codecs that read the stored bytes of a dataset, or None and why there are none."""
    codecs, reason = translate_codecs(record.filters, chunk_nbytes(record), zarr_format=zarr_format)
    if codecs is None:
        return None, reason
    if zarr_format == 2:
        return CodecChain(codecs[:-1], None, codecs[-1:]), ""
    return CodecChain((), serializer(kind.dtype, kind.endian), codecs), ""


def check_filters_installed(record: DatasetRecord, manifest: ChunkManifest) -> None:
    """Refuse a dataset that has been stored through a filter that nothing here can undo.

    Raises
    ------
    UnsupportedError
        Some chunk went through such a filter.
    """
    try:
        make_decoder(record.filters, chunk_nbytes(record))
    except UnsupportedError:
        load_plugins(record.filters)
    else:
        return
    for position, entry in enumerate(record.filters):
        used = (manifest.masks >> position & 1 == 0).any()
        if used and not h5z.filter_avail(entry.id):
            raise UnsupportedError(
                f"filter {entry.id} ({entry.name}) is not installed; hdf5plugin or another package may have it"
            )


@dataclass(frozen=True, slots=True, eq=False)
class ArrayNode:
    """One Zarr array to make."""

    target: str
    """path in the store, without a leading slash"""
    dtype: np.dtype[Any]
    """StringDType for the data type ``string``"""
    shape: Shape
    chunks: Shape
    shards: Shape | None
    """shape of a shard, whole chunks"""
    chain: CodecChain
    fill: FillValue
    attributes: Mapping[str, Any]
    dimension_names: tuple[str | None, ...] | None

    @property
    def write_shape(self) -> Shape:
        """Shape of what one key of the store holds: a shard or a chunk."""
        return self.shards or self.chunks


def shard_counts(node: ArrayNode) -> NDArray[np.int64]:
    """Give how many chunks a shard has along each axis."""
    return np.asarray([s // c for s, c in zip(node.write_shape, node.chunks, strict=True)], np.int64)
