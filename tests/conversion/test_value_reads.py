"""What files have of a region is joined to one block, and takes little more memory than that."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from h5bound.conversion.value_reads import join_blocks


def test_one_block_at_a_time_is_in_memory_besides_the_joined_ones() -> None:
    tracemalloc.start()
    try:
        joined = join_blocks((np.full((100, 1000), number, "f8") for number in range(10)), (1000, 1000), 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert joined[::100, 0].tolist() == list(range(10))
    assert peak < joined.nbytes + joined.nbytes // 8


@pytest.mark.parametrize(
    "dtypes",
    [("S2", "S2", "S2"), ("S2", "S5", "S1"), ("<i4", ">i4", "<i4"), ("O", "O", "O"), ("i2", "i2", "f8")],
    ids=" ".join,
)
@pytest.mark.parametrize("axis", [0, 1])
def test_blocks_are_joined_as_numpy_does(dtypes: tuple[str, ...], axis: int) -> None:
    sizes, values = (2, 0, 3), np.array([12345, 7], "i8")
    blocks: list[Any] = []
    for dtype, size in zip(dtypes, sizes, strict=True):
        shape = (size, 2) if axis == 0 else (2, size)
        content = np.broadcast_to(values if axis == 0 else values[:, None], shape)
        blocks.append(content.astype("S5").astype(dtype) if dtype[0] == "S" else content.astype(dtype))
    expected: Any = np.concatenate(blocks, axis)
    joined = join_blocks(iter(blocks), expected.shape, axis)
    assert joined.dtype == expected.dtype
    assert joined.tolist() == expected.tolist()
