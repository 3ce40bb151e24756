"""Decode the chunks of one dataset: undo the filters of its pipeline, in reverse order."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from h5bound.buffers import Bytes, DamagedError, Pieces, Rows
from h5bound.codecs.decoders import FilterInput
from h5bound.codecs.filters import FILTERS, FilterSpec
from h5bound.errors import UnsupportedError

if TYPE_CHECKING:
    from h5bound.codecs.pipeline import Filter, Options


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decoder of the chunks of one dataset."""

    nbytes: int
    """Size of a decoded chunk."""
    steps: tuple[tuple[FilterSpec, Options], ...]
    """Filters in the order in which they were applied, with their client data values."""

    def decode(self, encoded: Bytes, out: Bytes, mask: int = 0) -> None:
        """Decode one chunk into `out`, which has `nbytes` bytes.

        Bit i of `mask` says that filter i was skipped. `encoded` may be overwritten during the call, but is restored.
        Each filter but the last one to be decoded takes one more buffer of the chunk's size. Raise DamagedError if the
        bytes do not decode to `nbytes` bytes or a checksum does not match.
        """
        steps = self._applied(mask)
        data = self._undo(steps, encoded, out)
        self._check(data)
        if data is not out:
            out[:] = data

    def check(self, encoded: Bytes, mask: int = 0) -> None:
        """Raise DamagedError if a chunk does not decode to `nbytes` bytes, or a checksum does not match."""
        self._check(self._undo(self._checked(mask), encoded))

    def check_all(self, encoded: Pieces, mask: int = 0) -> None:
        """Raise DamagedError as `check` does for each chunk. No more is copied than that takes."""
        steps = self._checked(mask)
        if all(spec.undo_all is not None for spec, _, _ in steps):
            self._undo_all(steps, encoded).rows(self.nbytes)
            return
        for chunk in encoded:
            self._check(self._undo([*steps], chunk))

    def _undo(self, steps: list[tuple[FilterSpec, Options, int]], encoded: Bytes, out: Bytes | None = None) -> Bytes:
        """Undo filters from the last to the first, which may decode into `out`."""
        data = encoded
        while steps:
            spec, options, nbytes = steps.pop()
            target = None if steps else out
            try:
                data = spec.undo(FilterInput(data, nbytes, out=target, options=options, limit=self._limit))
            except DamagedError as error:
                raise DamagedError(f"{spec.name}: it {error}") from error.__cause__
        return data

    def decode_all(self, encoded: Pieces, mask: int) -> Rows:
        """Return the chunks of one filter mask, a row each: one filter of all chunks is undone, then the next.

        Raise DamagedError as `decode` does, without the name of the filter.
        """
        return self._undo_all(self._applied(mask), encoded).rows(self.nbytes)

    def _undo_all(self, steps: list[tuple[FilterSpec, Options, int]], encoded: Pieces) -> Pieces:
        """Undo filters of many chunks, from the last to the first."""
        data = encoded
        for spec, options, nbytes in reversed(steps):
            done = None if spec.undo_all is None else spec.undo_all(data, nbytes, options)
            if done is None:
                inputs = [FilterInput(chunk, nbytes, out=None, options=options, limit=self._limit) for chunk in data]
                done = Pieces.copy_of(list(map(spec.undo, inputs)))
            data = done
        return data

    @property
    def _limit(self) -> int:
        """Most bytes of the input or output of a compressor: twice the chunk and 64 KiB."""
        return 2 * self.nbytes + (1 << 16)

    def _applied(self, mask: int) -> list[tuple[FilterSpec, Options, int]]:
        """Return the filters that were applied, with their options and input sizes (-1 after a compressor)."""
        applied, nbytes = [], self.nbytes
        for i, (spec, options) in enumerate(self.steps):
            if not mask >> i & 1:
                applied.append((spec, options, nbytes))
                nbytes = -1 if nbytes < 0 or spec.growth is None else nbytes + spec.growth
        return applied

    def _checked(self, mask: int) -> list[tuple[FilterSpec, Options, int]]:
        """Return the filters that were applied, without the first ones that only move bytes: these cannot fail."""
        steps = self._applied(mask)
        return steps[len(list(takewhile(lambda step: step[0].growth == 0, steps))) :]

    def _check(self, data: Bytes) -> None:
        if data.size != self.nbytes:
            raise DamagedError(f"it decodes to {data.size} bytes where {self.nbytes} are declared")


def make_decoder(filters: tuple[Filter, ...], nbytes: int) -> Decoder:
    """Return the decoder of a pipeline for chunks of `nbytes` bytes.

    Raise UnsupportedError if a filter is not in the table, its library is not installed, or only HDF5
    can decode its settings. Such data must be read through h5py.
    """
    steps = []
    compressed = False
    for entry in filters:
        spec = FILTERS.get(entry.id)
        if spec is None:
            raise UnsupportedError(f"filter {entry.name or entry.id} can only be decoded by HDF5")
        if spec.library and importlib.util.find_spec(spec.library) is None:
            raise UnsupportedError(f"filter {spec.name} needs {spec.library}: pip install 'h5bound[filters]'")
        if not spec.accepts(entry.options, nbytes):
            raise UnsupportedError(f"filter {spec.name} with the settings {entry.options} is decoded by HDF5")
        if compressed and spec.growth is None and spec.needs_nbytes:
            raise UnsupportedError(f"filter {spec.name} after another compressor is decoded by HDF5")
        compressed = compressed or spec.growth is None
        steps.append((spec, entry.options))
    return Decoder(nbytes, tuple(steps))
