"""The document in which a store has its provenance and the details of its nodes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def read_own(target: Path) -> Any:
    """Return the content of ``h5bound.json`` in a directory."""
    return json.loads((target / "h5bound.json").read_text())
