"""Values of attributes as text in one line, and as JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.hdf5.type_json import encode_base64

if TYPE_CHECKING:
    from h5bound.hdf5.type_json import JSON

MAX_ITEMS = 8
"""Elements of an array that are shown where room is short."""


def format_value(value: Any, *, limit: int | None = None) -> str:
    """Return a value of an attribute in one line, of about `limit` characters at most.

    >>> format_value("K"), format_value(np.arange(3.0)), format_value(["x", "y"]), format_value(None)
    ('"K"', '[0.0, 1.0, 2.0]', '["x", "y"]', 'null')
    >>> format_value("a long text", limit=8), format_value(np.zeros((2, 50)), limit=40)
    ('"a long…', '[0.0, 0.0, 0.0, … 2 x 50 values]')
    """
    if isinstance(value, (float, np.floating)):
        return str(value)
    if limit is not None and isinstance(value, np.ndarray) and value.size > MAX_ITEMS:
        items = [format_value(item) for item in value.ravel()[:3]]
        text = f"[{', '.join(items)}, … {' x '.join(map(str, value.shape))} values]"
    else:
        text = json.dumps(value_to_json(value), ensure_ascii=False)
    return text if limit is None or len(text) <= limit else f"{text[: limit - 1]}…"


def value_to_json(value: Any) -> JSON:
    """Return a value as JSON: complex numbers as pairs, opaque bytes as base64, NaN and infinities as text.

    >>> value_to_json(np.array([1.5, np.nan])), value_to_json(np.complex64(1 + 2j)), value_to_json(np.int8(1))
    ([1.5, 'NaN'], [1.0, 2.0], 1)
    """
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return [value_to_json(item) for item in value]
    if isinstance(value, list):
        return [value_to_json(item) for item in value]
    if isinstance(value, np.void) and value.dtype.names is not None:
        return {name: value_to_json(value[name]) for name in value.dtype.names}
    if isinstance(value, dict):
        return {name: value_to_json(item) for name, item in value.items()}
    return _scalar_to_json(value)


def _scalar_to_json(value: Any) -> JSON:
    if isinstance(value, np.void):
        return encode_base64(value.tobytes())
    if isinstance(value, (complex, np.complexfloating)):
        return [_scalar_to_json(value.real), _scalar_to_json(value.imag)]
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return number if math.isfinite(number) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(number, "NaN")
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
