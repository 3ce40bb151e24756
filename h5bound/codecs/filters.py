"""The table from HDF5 filters to their decoders (:mod:`h5bound.codecs.decoders`) and to equivalent Zarr codecs.

HDF5 applies the filters of a pipeline in order when it writes and undoes them in reverse when it reads. Bit i of a
chunk's filter mask says that filter i was skipped for that chunk (HDF5 File Format Specification, "Filter Pipeline
Message" and "Version 1 B-trees").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from h5bound.codecs.batches import (
    check_all,
    decompress_blosc,
    decompress_lz4,
    decompress_zstd,
    undo_bitshuffle_all,
    unshuffle_all,
)
from h5bound.codecs.decoders import (
    FilterInput,
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
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from h5bound.buffers import Bytes, Pieces
    from h5bound.codecs.pipeline import Filter, Options


CodecConfig: TypeAlias = dict[str, Any]
"""A codec as numcodecs and Zarr's format 2 describe it, for Blosc with the ``typesize`` of format 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSpec:
    """One entry of the table: a filter that h5bound decodes itself."""

    name: str
    """Common name, used in messages."""
    undo: Callable[[FilterInput], Bytes]
    """Decoder of one chunk."""
    growth: int | None
    """Bytes that the filter adds to a chunk; None for a compressor, whose output has any size."""
    accepts: Callable[[Options, int], bool] = lambda _options, _nbytes: True
    """Whether the decoder takes these client data values for chunks of so many bytes; else HDF5 decodes them."""
    codec: Callable[[Options], CodecConfig] | None = None
    """Zarr codec for the client data values; None if no codec decodes the filter."""
    needs_nbytes: bool = True
    """Whether the decoder must know the decoded size; if not, it may follow another compressor."""
    library: str | None = None
    """Optional dependency that the decoder imports."""
    has_checksum: bool = False
    """Whether the decoder finds any change of the bytes."""
    undo_all: Callable[[Pieces, int, Options], Pieces | None] | None = None
    """Decoder of many chunks at once, given their decoded size; it returns None where it cannot decode them."""


def to_codec_v3(codec: CodecConfig) -> CodecConfig:
    """Return a codec as format 3 describes it. Those that are not in the specification are ``numcodecs.NAME``."""
    settings = dict(codec)
    name = settings.pop("id")
    if name == "blosc":
        shuffle = int(settings["typesize"] > 1) if settings["shuffle"] < 0 else settings["shuffle"]
        settings["shuffle"] = ("noshuffle", "shuffle", "bitshuffle")[shuffle]
    elif name == "zstd":
        settings.setdefault("checksum", False)
    elif name != "gzip":
        name = f"numcodecs.{name}"
    return {"name": name, "configuration": settings}


def _level(options: Options, default: int) -> int:
    """Return the compression level that a filter was set to. Decoding does not depend on it."""
    return options[0] if options and 0 <= options[0] <= 22 else default


def _blosc_filter_codec(options: Options) -> CodecConfig:
    _, _, typesize, _, level, shuffle, packer = (*options, *(0, 0, 1, 0, 5, 1, 0)[len(options) :])
    sizes = {"blocksize": 0, "typesize": typesize}
    return {"id": "blosc", "cname": BLOSC_PACKERS[packer], "clevel": level, "shuffle": shuffle, **sizes}


def _accepts_bitshuffle(options: Options, nbytes: int) -> bool:
    if len(options) < 4:
        return False
    return 0 < options[2] <= nbytes and options[3] % 8 == 0 and (*options, 0)[4] in (0, 2, 3)


BLOSC_PACKERS = {0: "blosclz", 1: "lz4", 2: "lz4hc", 4: "zlib", 5: "zstd"}
"""Blosc's compressors by the plugin's seventh client data value. numcodecs is built without 3, snappy."""

FILTERS = {
    1: FilterSpec(
        name="deflate",
        undo=undo_deflate,
        growth=None,
        accepts=lambda options, _: len(options) == 1 and options[0] <= 9,  # HDF5 refuses other levels
        codec=lambda options: {"id": "zlib", "level": _level(options, 1)},
        needs_nbytes=False,
        has_checksum=True,
    ),
    2: FilterSpec(
        name="shuffle",
        undo=undo_shuffle,
        undo_all=unshuffle_all,
        growth=0,
        accepts=lambda options, nbytes: len(options) == 1 and 0 < options[0] <= nbytes,
        codec=lambda options: {"id": "shuffle", "elementsize": options[0]},
    ),
    3: FilterSpec(
        name="fletcher32",
        undo=undo_fletcher32,
        undo_all=check_all,
        growth=4,
        codec=lambda _: {"id": "fletcher32"},
        has_checksum=True,
    ),
    4: FilterSpec(
        name="szip",
        undo=undo_szip,
        growth=None,
        accepts=lambda options, _: len(options) == 4,
        library="imagecodecs",
    ),
    307: FilterSpec(
        name="bzip2",
        undo=undo_bzip2,
        growth=None,
        codec=lambda options: {"id": "bz2", "level": _level(options, 9)},
        has_checksum=True,
    ),
    32000: FilterSpec(name="lzf", undo=undo_lzf, growth=None, library="imagecodecs"),
    32001: FilterSpec(
        name="blosc",
        undo=undo_blosc,
        undo_all=decompress_blosc,
        growth=None,
        accepts=lambda options, _: len(options) < 7 or options[6] in BLOSC_PACKERS,
        codec=_blosc_filter_codec,
    ),
    32004: FilterSpec(name="lz4", undo=undo_lz4, growth=None, undo_all=decompress_lz4),
    32008: FilterSpec(
        name="bitshuffle",
        undo=undo_bitshuffle,
        growth=None,
        accepts=_accepts_bitshuffle,
        library="imagecodecs",
        undo_all=undo_bitshuffle_all,
    ),
    32015: FilterSpec(
        name="zstd",
        undo=undo_zstd,
        undo_all=decompress_zstd,
        growth=None,
        codec=lambda options: {"id": "zstd", "level": _level(options, 3)},
    ),
}
"""The table, by the numbers that The HDF Group registers (hdf5_plugins, RegisteredFilterPlugins)."""


HDF5PLUGIN = frozenset({307, 32001, 32004, 32008, 32013, 32015, 32017, 32018, 32024, 32026, 32028, 32033})
"""Filters that hdf5plugin registers with HDF5, by their numbers."""


def explain_missing(entry: Filter) -> str:
    """Return that nothing installed undoes a filter, and where it is to be had.

    >>> from h5bound.codecs.pipeline import Filter
    >>> explain_missing(Filter(305, 0, (), "lzo"))
    'HDF5 has no filter 305 (lzo), nor has h5bound[filters]: set HDF5_PLUGIN_PATH to a directory with it'
    """
    name = FILTERS[entry.id].name if entry.id in FILTERS else entry.name
    named = f"filter {entry.id} ({name})" if name else f"filter {entry.id}"
    if entry.id in HDF5PLUGIN or entry.id in FILTERS:
        return f"HDF5 has no {named}: pip install 'h5bound[filters]'"
    return f"HDF5 has no {named}, nor has h5bound[filters]: set HDF5_PLUGIN_PATH to a directory with it"


def list_codec_names() -> set[str]:
    """Return the names of all Zarr codecs in the table, in both formats. They do not depend on client data values."""
    configs = [spec.codec((1,) * 7) for spec in FILTERS.values() if spec.codec]
    return {name for config in configs for name in (config["id"], to_codec_v3(config)["name"])}


def translate_codecs(filters: tuple[Filter, ...], nbytes: int) -> tuple[tuple[CodecConfig, ...] | None, str]:
    """Return the Zarr codecs that read HDF5's stored chunks (`nbytes` bytes once decoded), or None and the reason.

    They are bytes-to-bytes codecs in the order of writing. In format 3 they follow the ``bytes`` codec, which has the
    byte order; in format 2 they are the filters and, last, the compressor. They read only chunks that went through the
    whole pipeline, neither chunks with a filter mask nor unfiltered edge chunks. The specification of format 3 has only
    ``blosc`` of these; zarr-python 3.1 warns of the ``numcodecs.`` ones (`ZarrUserWarning`), 3.4 does not.

    >>> from h5bound.codecs.pipeline import Filter
    >>> gzip = (Filter(2, 1, (4,), "shuffle"), Filter(1, 1, (6,), "deflate"))
    >>> translate_codecs(gzip, 4096)
    (({'id': 'shuffle', 'elementsize': 4}, {'id': 'zlib', 'level': 6}), '')
    """
    codecs: list[CodecConfig] = []
    size = nbytes
    for entry in filters:
        spec = FILTERS.get(entry.id)
        if spec is None or spec.codec is None:
            name = spec.name if spec else entry.name or entry.id
            return None, f"no Zarr codec reads what HDF5's filter {name} writes"
        if not spec.accepts(entry.options, nbytes):
            return None, f"no Zarr codec reads HDF5's filter {spec.name} with the settings {entry.options}"
        if spec.name == "shuffle" and (size < 0 or size % entry.options[0]):
            return None, "Zarr's shuffle takes whole elements only, and the bytes to shuffle are not"
        size = -1 if size < 0 or spec.growth is None else size + spec.growth
        codecs.append(spec.codec(entry.options))
    return tuple(codecs), ""
