"""Plan which ranges of a remote file are requested together. Nothing is requested here."""

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
"""Largest gap between spans that are one request: loading the gap takes less time than another request."""

PIECE_NBYTES = 4 << 20
"""Most bytes of joined spans: more bytes arrive sooner in several concurrent requests."""

CONCURRENT_NBYTES = 16 << 20
"""Bytes that are requested at once where the next reads are known."""


@dataclass(slots=True, eq=False)
class Piece:
    """The bytes of one request."""

    span: Span
    """Start and stop in the file."""
    left: int = 0
    """Announced spans in it that were not read yet."""
    requested: bool = False
    """Whether a thread has requested it."""
    data: Future[bytes] = field(default_factory=Future)
    """Its bytes, once they have arrived."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.span[1] - self.span[0]

    def holds(self, span: Span) -> bool:
        """Return whether a span is part of it."""
        return self.span[0] <= span[0] and span[1] <= self.span[1]


class Pieces:
    """The pieces of a file with all spans that were announced, for any thread and in any order.

    A piece is requested with the first of its spans, and kept until the last of them was read. So small chunks that lie
    together cost one request, though they are read one by one.

    >>> pieces = Pieces()
    >>> pieces.prefetch([(0, 10), (10, 20), (5_000_000, 5_000_010)])
    >>> for span in [(10, 20), (0, 10), (90, 95)]:
    ...     by_span, missing = pieces.take([span])
    ...     print(by_span[span].span, [piece.span for piece in missing])
    (0, 20) [(0, 20), (5000000, 5000010)]
    (0, 20) []
    (90, 95) [(90, 95)]
    """

    def __init__(self) -> None:
        self._pieces: list[Piece] = []  # those with spans left, by start
        self._waiting: deque[Piece] = deque()  # all that are not requested yet, and some that are
        self._lock = threading.Lock()

    def prefetch(self, spans: Iterable[Span]) -> None:
        """Announce spans that will be taken, each once."""
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
        """Return the piece of each span, and the pieces that the caller has to request, perhaps more than those."""
        by_span: dict[Span, Piece] = {}
        missing, to_request = [], []
        with self._lock:
            for span in spans:
                piece = self._find(span)
                if piece is None:
                    missing.append(span)
                    continue
                by_span[span] = piece
                piece.left -= 1
                if piece.left == 0:
                    self._pieces.remove(piece)
                if not piece.requested:
                    piece.requested = True
                    to_request.append(piece)
            nbytes = sum(piece.nbytes for piece in to_request)
            while to_request and self._waiting and nbytes < CONCURRENT_NBYTES:
                piece = self._waiting.popleft()
                if not piece.requested:
                    piece.requested = True
                    to_request.append(piece)
                    nbytes += piece.nbytes
        new = [Piece(span) for span in join(missing)]
        return by_span | dict(match(missing, new)), to_request + new

    def _find(self, span: Span) -> Piece | None:
        position = bisect_right(self._pieces, span[0], key=lambda piece: piece.span[0])
        piece = self._pieces[position - 1] if position else None
        return piece if piece is not None and piece.holds(span) else None

    def forget(self, pieces: Iterable[Piece]) -> None:
        """Remove pieces whose requests failed."""
        lost = set(pieces)
        with self._lock:
            self._pieces = [piece for piece in self._pieces if piece not in lost]


def join(spans: Sequence[Span]) -> list[Span]:
    """Return the spans in order, after joining those that lie close together.

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
    """Yield each span with the piece that holds it; each span was joined to one of the pieces."""
    starts = [piece.span[0] for piece in pieces]
    return ((span, pieces[bisect_right(starts, span[0]) - 1]) for span in spans)
