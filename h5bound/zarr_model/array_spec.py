"""The specification of a Zarr array: its shape, its chunks, and the codecs that encode them.

The codecs are either those that read the chunks as HDF5 stored them (`translate_filters`), or those that the user chose
(:mod:`h5bound.zarr_model.codec_options`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from h5py import h5z

from h5bound.buffers import raw_dtype
from h5bound.codecs.chunk_decoder import make_decoder
from h5bound.codecs.filters import explain_missing, list_codec_names, translate_codecs
from h5bound.errors import UnsupportedError
from h5bound.reader.via_h5py import load_plugins

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numcodecs.abc import Codec
    from numpy.typing import NDArray

    from h5bound.chunk_grid import Shape
    from h5bound.codecs.filters import CodecConfig
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.zarr_model.fill_values import FillValue


TEXT_CODECS = {"T": "vlen-utf8", "O": "vlen-bytes"}
"""Codecs of text and of bytes of variable length, by the kind of numpy's type."""

WRITTEN_CODECS = {
    "bytes",
    *TEXT_CODECS.values(),
    "blosc",
    "zstd",
    "gzip",
    "sharding_indexed",
    "crc32c",
    *list_codec_names(),
}
"""All codecs that h5bound writes, in either format; without `pickle`, which runs the code that it decodes."""


@dataclass(frozen=True, slots=True)
class CodecChain:
    """The codecs of one array."""

    filters: tuple[CodecConfig, ...]
    """Filters of format 2; none in format 3."""
    compressors: tuple[CodecConfig, ...]
    """Format 3: bytes-to-bytes codecs. Format 2: at most one compressor."""


@dataclass(frozen=True, slots=True, eq=False)
class ArrayNode:
    """One Zarr array to create."""

    target: str
    """Path in the store, without a leading slash."""
    dtype: np.dtype[Any]
    """Element type; StringDType for the data type ``string``."""
    shape: Shape
    chunks: Shape
    shards: Shape | None
    """Shape of a shard, a multiple of the chunk shape; None without shards."""
    chain: CodecChain
    fill: FillValue
    attributes: Mapping[str, Any]
    dimension_names: tuple[str, ...]

    @property
    def write_shape(self) -> Shape:
        """Shape of what one key of the store holds: a shard or a chunk."""
        return self.shards or self.chunks


def shard_counts(node: ArrayNode) -> NDArray[np.int64]:
    """Return the number of chunks in a shard along each axis."""
    return np.asarray([s // c for s, c in zip(node.write_shape, node.chunks, strict=True)], np.int64)


def estimate_itemsize(dtype: np.dtype[Any]) -> int:
    """Return the bytes of an element in memory, an estimate for text of variable length."""
    return 64 if dtype.kind in TEXT_CODECS else max(int(dtype.itemsize), 1)


def check_codecs(document: Mapping[str, Any]) -> None:
    """Raise ValueError if a metadata document names a codec that h5bound never writes, before codecs are loaded.

    >>> check_codecs({"filters": [{"id": "vlen-utf8"}], "compressor": {"id": "pickle"}})
    Traceback (most recent call last):
    ValueError: codec 'pickle' is not one that h5bound writes
    """
    for name in list_codecs(document):
        if name not in WRITTEN_CODECS:
            raise ValueError(f"codec {name!r} is not one that h5bound writes")


def list_codecs(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the codecs in an array's metadata document, nested codecs included."""
    for codec in (*(document.get("filters") or ()), document.get("compressor"), *document.get("codecs", ())):
        if isinstance(codec, str):
            yield codec
        elif codec is not None:
            yield codec.get("id", codec.get("name"))
            for inner in ("codecs", "index_codecs"):
                yield from list_codecs({"codecs": codec.get("configuration", {}).get(inner, ())})


def plan_serializer(dtype: np.dtype[Any]) -> Mapping[str, Any] | None:
    """Return the array-to-bytes codec of format 3; None for types without a byte order."""
    if dtype.kind not in "iufcmM" or dtype.itemsize == 1:
        return None
    return {"name": "bytes", "configuration": {"endian": "big" if dtype.byteorder == ">" else "little"}}


def make_codecs(configs: Iterable[CodecConfig]) -> list[Codec]:
    """Return codecs of numcodecs."""
    from numcodecs import get_codec

    return [get_codec({name: value for name, value in codec.items() if name != "typesize"}) for codec in configs]


def make_encoders(node: ArrayNode) -> list[Codec]:
    """Return the codecs that encode a chunk of an array; the one of text is in its chain only in format 2."""
    configs, of_text = (*node.chain.filters, *node.chain.compressors), list_text_codecs(node.dtype)
    return make_codecs(configs if configs[: len(of_text)] == of_text else (*of_text, *configs))


def list_text_codecs(dtype: np.dtype[Any]) -> tuple[CodecConfig, ...]:
    """Return the filter of format 2 for text or bytes of variable length; none for other types."""
    return ({"id": TEXT_CODECS[dtype.kind]},) if dtype.kind in TEXT_CODECS else ()


def encode_chunk(codecs: Sequence[Codec], block: NDArray[Any], *, fill: NDArray[Any], chunks: tuple[int, ...]) -> bytes:
    """Return an encoded chunk of shape `chunks`; `fill` (of the array's type) pads a block at the array's end.

    The codecs run in the calling thread. zarr-python encodes in threads of its own and passes every chunk through one
    event loop: chunks of 1 MB take half as long again.
    """
    whole = block
    if block.shape != chunks or block.dtype != fill.dtype:
        whole = np.full(chunks, fill, fill.dtype)
        whole[tuple(slice(0, size) for size in block.shape)] = block
    flat = np.ascontiguousarray(whole).reshape(-1)
    is_text = fill.dtype.kind in TEXT_CODECS
    element = np.dtype(np.uint8) if is_text else raw_dtype(fill.dtype)
    data: Any = flat.astype(object) if is_text else flat.view(element)
    for codec in codecs:
        if codec.codec_id == "blosc":  # it takes the size of an element from the buffer, here as the metadata says
            raw = np.frombuffer(data, np.uint8)
            data = raw.view(element) if raw.size % element.itemsize == 0 else raw
        data = encode(codec, data)
    return data.tobytes() if isinstance(data, np.ndarray) else bytes(data)


def encode(codec: Codec, data: Any) -> Any:
    """Return the bytes of a buffer as a codec encodes them.

    libdeflate encodes gzip 2.5 to 3.8 times as fast as numcodecs, to about the same size (``docs/benchmarks.md``),
    without the GIL and without a time stamp. Its levels 0 to 9 are about those of zlib.
    """
    try:
        import deflate
    except ModuleNotFoundError:
        return codec.encode(data)
    compress = {"gzip": deflate.gzip_compress, "zlib": deflate.zlib_compress}.get(codec.codec_id)
    return compress(data, codec.level) if compress and codec.level in range(10) else codec.encode(data)


def translate_filters(record: DatasetRecord, zarr_format: int) -> tuple[CodecChain | None, str]:
    """Return the codecs that read the stored chunks of a dataset, or None and the reason."""
    codecs, reason = translate_codecs(record.filters, _chunk_nbytes(record))
    if codecs is None:
        return None, reason
    split = len(codecs) - 1 if zarr_format == 2 else 0
    return CodecChain(codecs[:split], codecs[split:]), ""


def check_filters_installed(record: DatasetRecord, manifest: ChunkManifest) -> None:
    """Raise UnsupportedError if a stored chunk has a filter that neither h5bound nor HDF5 can decode."""
    with suppress(UnsupportedError):
        make_decoder(record.filters, _chunk_nbytes(record))
        return
    load_plugins(record.filters)
    for position, entry in enumerate(record.filters):
        applied = (manifest.masks >> position & 1 == 0).any()
        if applied and not h5z.filter_avail(entry.id):
            raise UnsupportedError(explain_missing(entry))


def _chunk_nbytes(record: DatasetRecord) -> int:
    """Return the bytes of a decoded chunk; 0 where the dataset is not stored in chunks."""
    if record.chunks is None or record.dtype is None:
        return 0
    return prod(record.chunks) * record.dtype.itemsize
