"""The records in ``bench/results/``, which `bench.record` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    Record = dict[str, Any]
    """As it is written: ``date``, ``command``, ``machine``, ``versions``, ``ratios``."""

RESULTS = Path(__file__).parent / "results"


def read_records() -> Iterator[Record]:
    """Yield the records, from the newest to the oldest."""
    for path in sorted(RESULTS.glob("*.json"), reverse=True):
        yield json.loads(path.read_text(encoding="utf-8"))


def read_last(name: str) -> Record:
    """Return the newest record that has a measurement, or one without ratios."""
    return next((record for record in read_records() if name in record["ratios"]), {"ratios": {name: {}}})
