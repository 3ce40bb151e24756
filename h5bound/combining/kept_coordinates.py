"""Coordinates of small chunks, whose values the provenance keeps, so that files are added without reading each chunk.

Steps of most coordinates are alike: ten years of hours take 1 kB.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.conversions import apply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from h5bound.combining.file_scan import FileScan, VariableSchema
    from h5bound.combining.joined import JoinedVariable, Rules
    from h5bound.zarr_model.array_spec import ArrayNode

SMALL_CHUNK = 256
"""Most elements of a chunk, or shard, of such a coordinate. Those of larger ones are read in few requests."""

MAX_KEPT = 1 << 20
"""Most elements of such a coordinate: where the steps are irregular, they take 10 bytes each."""


def can_order(path: str, schema: VariableSchema, axes: int, *, rules: Rules) -> bool:
    """Return whether files may be ordered by a variable: the coordinate of `dim`, of a new one any along it."""
    is_number = schema.form == "plain" and not schema.dtype.startswith("[") and np.dtype(schema.dtype).kind in "iuf"
    return is_number and axes == 1 and (rules.new or path.rpartition("/")[2] == rules.dim)


def keep_coordinate(variable: JoinedVariable, node: ArrayNode, files: Sequence[FileScan]) -> str | None:
    """Return the values of a coordinate as text; None if it has large chunks, or the values of a file are not known."""
    if node.write_shape[0] > SMALL_CHUNK or not 0 < variable.shape[0] <= MAX_KEPT:
        return None
    parts = []
    counts = np.diff(variable.starts).tolist()
    pairs = zip(files, variable.conversions, variable.skips.tolist(), counts, strict=True)
    for file, conversion, skip, count in pairs:
        item = file.variables.get(variable.path)
        if item is None or item.values is None:
            return None
        values = item.values.reshape(-1)
        values = values if conversion is None else apply(conversion, values)
        start = 0 if file.in_store else skip  # what the store has begins after what was left out
        parts.append(values[start : start + count])
    return write_values(np.concatenate(parts).astype(variable.schema.dtype, copy=False))


def write_values(values: NDArray[Any]) -> str:
    """Return numbers as text: base64 of zlib of the differences of their bits, the bytes of one place together.

    >>> hours = np.arange(87_600.0)
    >>> len(write_values(hours)), read_values(write_values(hours), hours.dtype)[-2:]
    (1016, array([87598., 87599.]))
    """
    bits = values.view(name_bits(values.dtype)).astype(f"<u{values.dtype.itemsize}")
    steps = np.diff(bits, prepend=bits.dtype.type(0))
    places = steps.view(np.uint8).reshape(-1, bits.dtype.itemsize).T
    return base64.b64encode(zlib.compress(places.tobytes())).decode()


def read_values(text: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the numbers that `write_values` wrote. Raise ValueError if it did not."""
    try:
        data = zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    places = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1)
    steps = np.ascontiguousarray(places.T).view(f"<u{dtype.itemsize}").reshape(-1)
    return np.cumsum(steps, dtype=steps.dtype).astype(name_bits(dtype)).view(dtype)


def name_bits(dtype: np.dtype[Any]) -> str:
    """Return the type of unsigned integers of the same size and order of bytes.

    >>> name_bits(np.dtype(">f8"))
    '>u8'
    """
    return f"{dtype.str[0]}u{dtype.itemsize}"
