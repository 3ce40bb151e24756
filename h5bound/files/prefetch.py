"""Which bytes of a remote file are asked for together: pure but for the lock."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Span = tuple[int, int]  # start and stop in the file


GAP_NBYTES = 128 << 10
"""Spans no further apart are one request: these bytes come in less time than another answer."""

PIECE_NBYTES = 4 << 20
"""Spans are joined up to so many bytes: more comes sooner in several requests at once."""

AT_ONCE_NBYTES = 16 << 20
"""So many bytes are asked for at once, where it is known what else will be wanted."""


@dataclass(slots=True, eq=False)
class Piece:
    """What one request asks for."""

    span: Span
    left: int = 0
    """spans of it that will be wanted"""
    asked: bool = False
    """whether someone asks for it, or has"""
    data: Future[bytes] = field(default_factory=Future)
    """what it gives, once it is answered"""

    def holds(self, span: Span) -> bool:
        """Tell whether a span is part of it."""
        return self.span[0] <= span[0] and span[1] <= self.span[1]


class Pieces:
    """The pieces that hold what will be wanted of a file, by any thread and in any order.

    A piece is asked for when the first of what it holds is wanted, and kept until the last of it was. So small chunks
    that lie together cost one request, though they are read one by one.

    Examples
    --------
    >>> pieces = Pieces()
    >>> pieces.prefetch([(0, 10), (10, 20), (5_000_000, 5_000_010)])
    >>> for span in [(10, 20), (0, 10), (90, 95)]:
    ...     found, missing = pieces.take([span])
    ...     print(found[span].span, [piece.span for piece in missing])
    (0, 20) [(0, 20), (5000000, 5000010)]
    (0, 20) []
    (90, 95) [(90, 95)]
    """

    def __init__(self) -> None:
        self._pieces: list[Piece] = []  # of which something is still wanted, by where they start
        self._waiting: deque[Piece] = deque()  # those that nobody has asked for, and some that somebody has
        self._lock = threading.Lock()

    def prefetch(self, spans: Iterable[Span]) -> None:
        """Take notice of what will be wanted, as often as it will be."""
        with self._lock:
            missing = []
            for span in spans:
                piece = self._find(span)
                if piece is None:
                    missing.append(span)
                else:
                    piece.left += 1
            new = [Piece(span) for span in join(missing)]
            for _, piece in match(missing, new):
                piece.left += 1
            self._pieces = sorted([*self._pieces, *new], key=attrgetter("span"))
            self._waiting += new

    def take(self, spans: Iterable[Span]) -> tuple[dict[Span, Piece], list[Piece]]:
        """Give the piece that has each span, and the pieces that the caller is to ask for: these, or more."""
        found: dict[Span, Piece] = {}
        missing, ask = [], []
        with self._lock:
            for span in spans:
                piece = self._find(span)
                if piece is None:
                    missing.append(span)
                    continue
                found[span] = piece
                piece.left -= 1
                if piece.left == 0:
                    self._pieces.remove(piece)
                if not piece.asked:
                    piece.asked = True
                    ask.append(piece)
            if ask:
                ask += self._take_more(AT_ONCE_NBYTES - sum(piece.span[1] - piece.span[0] for piece in ask))
        new = [Piece(span) for span in join(missing)]
        return found | dict(match(missing, new)), ask + new

    def _find(self, span: Span) -> Piece | None:
        location = bisect_right(self._pieces, span[0], key=lambda piece: piece.span[0])
        piece = self._pieces[location - 1] if location else None
        return piece if piece is not None and piece.holds(span) else None

    def _take_more(self, room: int) -> list[Piece]:
        """Give more pieces that will be wanted, up to so many bytes."""
        more = []
        while room > 0 and self._waiting:
            piece = self._waiting.popleft()
            if not piece.asked:
                piece.asked = True
                more.append(piece)
                room -= piece.span[1] - piece.span[0]
        return more

    def forget(self, pieces: Iterable[Piece]) -> None:
        """Let go of pieces that could not be had."""
        lost = set(pieces)
        with self._lock:
            self._pieces = [piece for piece in self._pieces if piece not in lost]

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._pieces.clear()
            self._waiting.clear()


def join(spans: Sequence[Span]) -> list[Span]:
    """Give spans that hold these, in order: those that lie close as one.

    >>> join([(500_000, 500_010), (0, 10), (1000, 1010)])
    [(0, 1010), (500000, 500010)]
    """
    from fsspec.utils import merge_offset_ranges

    if not spans:
        return []
    starts, stops = map(list, zip(*spans, strict=True))
    _, starts, stops = merge_offset_ranges([""] * len(spans), starts, stops, max_gap=GAP_NBYTES, max_block=PIECE_NBYTES)
    return list(zip(starts, stops, strict=True))


def match(spans: Iterable[Span], pieces: Sequence[Piece]) -> Iterable[tuple[Span, Piece]]:
    """Give each span with the piece that has it, of those that they were joined to."""
    starts = [piece.span[0] for piece in pieces]
    return ((span, pieces[bisect_right(starts, span[0]) - 1]) for span in spans)
