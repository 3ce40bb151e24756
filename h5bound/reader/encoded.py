"""Encoded chunks, and blocks of them: what is left of a block to decode once the file is closed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from h5bound.buffers import Block, Bytes, DamagedError, bytes_of, new_block
from h5bound.errors import CorruptChunkError

if TYPE_CHECKING:
    from h5bound.chunk_grid import Overlap
    from h5bound.codecs.chunk_decoder import Decoder
    from h5bound.files.protocols import Readable


class EncodedChunk(NamedTuple):
    """The place of the encoded bytes of one chunk."""

    source: Readable
    offset: int
    """Bytes from the start of the source."""
    nbytes: int
    """Encoded bytes."""
    mask: int
    """Filter mask: bit i says that filter i was not applied."""


class ChunkInMemory:
    """The encoded bytes of one chunk that HDF5 has read."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = np.frombuffer(encoded, np.uint8)

    def read(self, _offset: int, _nbytes: int) -> Bytes:
        """Return all bytes."""
        return self._encoded

    def read_into(self, _offset: int, out: Bytes) -> None:
        """Copy all bytes."""
        out[:] = self._encoded


@dataclass(frozen=True, slots=True, eq=False)
class EncodedBlock:
    """A block as the encoded bytes of its chunks. It takes less memory than the block and does not need the file."""

    name: str
    """Dataset and file, as errors name them."""
    decoder: Decoder
    chunk_shape: tuple[int, ...]
    """Shape of a chunk in elements."""
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    """Shape of the block in elements."""
    parts: tuple[tuple[Overlap, int, Bytes], ...]
    """For each chunk: its overlap with the block, its filter mask, its encoded bytes."""
    lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    """Held while a codec may write to the encoded bytes."""

    def decode(self) -> Block:
        """Return the block; raise CorruptChunkError if a chunk does not decode to its declared size."""
        block, raw_view = new_block(self.shape, self.dtype)
        scratch: Block | None = None
        for overlap, mask, encoded in self.parts:
            target = raw_view[overlap.in_block]
            whole = target.shape == self.chunk_shape and target.flags.c_contiguous
            if not whole and scratch is None:
                scratch = np.empty(self.chunk_shape, raw_view.dtype)
            out = target if whole or scratch is None else scratch
            try:
                with self.lock:
                    self.decoder.decode(encoded, bytes_of(out), mask)
            except DamagedError as error:
                raise corrupt(self.name, overlap, error) from error
            if out is scratch:
                target[...] = scratch[overlap.in_chunk]
        return block

    def __reduce__(self) -> tuple[Any, ...]:
        return np.asarray, (self.decode(),)


def corrupt(name: str, overlap: Overlap, error: DamagedError) -> CorruptChunkError:
    """Return the error that says which chunk of which dataset is damaged."""
    return CorruptChunkError(f"{name}, chunk at {overlap.origin}: {error}")
