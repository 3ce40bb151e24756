"""One array to write, and the keys and bytes of its chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h5bound.planning.source_values import DatasetJob
from h5bound.zarr_model.array_spec import encode_chunk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import zarr
    from numcodecs.abc import Codec
    from numpy.typing import NDArray

    from h5bound.planning.plan import Strategy
    from h5bound.stores.target import Target
    from h5bound.zarr_model.array_spec import ArrayNode


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Job(DatasetJob):
    """One array to write: what its units have in common."""

    strategy: Strategy
    """How the array is made from it."""
    node: ArrayNode
    """The Zarr array as it was planned."""
    array: zarr.Array[Any]
    """The Zarr array."""
    codecs: Sequence[Codec]
    """Codecs that encode a chunk."""
    target: Target
    """The store."""
    skip: bool
    """Whether a dataset that cannot be read is skipped and reported; if not, it ends the conversion."""
    owner: str = ""
    """Name of the conversion in the marker of a store that has no locks."""
    only_changed: bool = False
    """Whether keys that the store has already with the same bytes are not written."""
    folder: Path | None = None
    """Two passes: the directory of the files of the spill."""


def encode_elements(job: Job, block: NDArray[Any]) -> bytes:
    """Return the encoded bytes of one chunk."""
    return encode_chunk(job.codecs, block, fill=job.node.fill.value, chunks=job.node.chunks)


def key_of(job: Job, coords: Sequence[int]) -> str:
    """Return the key of a chunk or shard in the store."""
    return f"{job.node.target}/{job.array.metadata.encode_chunk_key(tuple(coords))}"
