"""Whether the chunks of a dataset can be kept, with which codecs, and whether they can be read at all."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from h5py import h5z

from h5bound.encoding import CodecChain, serializer
from h5bound.errors import UnsupportedError
from h5bound.fallback import load_plugins
from h5bound.filters import decoder_for, translate_codecs

if TYPE_CHECKING:
    from h5bound.datatypes import ZarrType
    from h5bound.plan import StoredChunks
    from h5bound.records import DatasetRecord


def chunk_nbytes(record: DatasetRecord) -> int:
    """Give the bytes of a decoded chunk; 0 where the dataset is not stored in chunks."""
    if record.chunks is None or record.dtype is None:
        return 0
    return prod(record.chunks) * record.dtype.itemsize


def translate_chain(record: DatasetRecord, kind: ZarrType, zarr_format: int) -> tuple[CodecChain | None, str]:
    """Give the codecs that read the stored bytes of a dataset, or None and why there are none."""
    codecs, reason = translate_codecs(record.filters, chunk_nbytes(record), zarr_format=zarr_format)
    if codecs is None:
        return None, reason
    if zarr_format == 2:
        return CodecChain(codecs[:-1], None, codecs[-1:]), ""
    return CodecChain((), serializer(kind.dtype, kind.endian), codecs), ""


def check_filters(record: DatasetRecord, stored: StoredChunks) -> None:
    """Refuse a dataset that has been stored through a filter that nothing here can undo.

    Raises
    ------
    UnsupportedError
        Some chunk went through such a filter.
    """
    try:
        decoder_for(record.filters, chunk_nbytes(record))
    except UnsupportedError:
        load_plugins(record.filters)
    else:
        return
    for position, entry in enumerate(record.filters):
        used = (stored.masks >> position & 1 == 0).any()
        if used and not h5z.filter_avail(entry.id):
            raise UnsupportedError(
                f"filter {entry.id} ({entry.name}) is not installed; hdf5plugin or another package may have it"
            )
