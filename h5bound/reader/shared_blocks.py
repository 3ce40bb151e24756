"""Blocks of compounds that several columns are cut from: each is read and decoded once while it is held."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from h5bound.buffers import Block

MAX_HELD = 16
"""Blocks that are held at most: columns are read in units of few blocks, one column after the other."""

MAX_HELD_NBYTES = 64 * 2**20
"""Bytes of all blocks that are held."""


@dataclass(slots=True, eq=False)
class _Held:
    """One block, or that a thread reads it."""

    lock: Lock = field(default_factory=Lock)
    block: Block | None = None


class SharedBlocks:
    """The blocks of a file that were read last."""

    def __init__(self) -> None:
        self._held: dict[Hashable, _Held] = {}
        self._lock = Lock()

    def get(self, key: Hashable, read: Callable[[], Block]) -> Block:
        """Return the block of a key, which `read` returns if no thread has read it; nobody may write to it."""
        with self._lock:
            held = self._held[key] = self._held.pop(key, _Held())
        with held.lock:
            if held.block is None:
                held.block = read()
            block = held.block
        with self._lock:
            self._drop()
        return block

    def _drop(self) -> None:
        """Drop the blocks that were not asked for the longest."""
        nbytes = 0
        for number, (key, held) in enumerate(reversed(list(self._held.items()))):
            nbytes += 0 if held.block is None else held.block.nbytes
            if number >= MAX_HELD or nbytes > MAX_HELD_NBYTES:
                del self._held[key]
