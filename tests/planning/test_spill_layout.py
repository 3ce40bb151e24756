"""Layouts of a spill over integers alone: what a cell writes to its file is what the boxes read from it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5bound.chunk_grid import list_chunk_coords, region_of
from h5bound.planning.spill_layout import SpillLayout, number_chunk, number_chunks

AXES = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 14), st.integers(1, 14)), min_size=1, max_size=3)


@given(axes=AXES, data=st.data())
def test_every_element_of_a_box_is_found_in_one_place(axes: list[tuple[int, int, int]], data: st.DataObject) -> None:
    shape, cell, box = (tuple(sizes) for sizes in zip(*axes, strict=True))
    values = np.arange(np.prod(shape)).reshape(shape)
    cells, boxes = (list_chunk_coords(shape, chunks, 10_000) for chunks in (cell, box))
    stored = cells[sorted(data.draw(st.sets(st.integers(0, len(cells) - 1))))]
    wanted = boxes[sorted(data.draw(st.sets(st.integers(0, len(boxes) - 1))))]
    layout = SpillLayout(
        shape=shape,
        cell=cell,
        box=box,
        cells=number_chunks(stored, shape, cell),
        boxes=number_chunks(wanted, shape, box),
    )
    files = {}
    for coords in stored.tolist():
        block = values[region_of(tuple(coords), shape, cell)]
        file = files[number_chunk(coords, shape, cell)] = np.full(block.size, -1)
        for piece in layout.cut_cell(coords):
            part = block[piece.inside]
            assert np.array_equal(part, values[piece.region])
            assert (file[piece.offset : piece.offset + part.size] == -1).all(), "two pieces share a place"
            file[piece.offset : piece.offset + part.size] = part.ravel()
    for coords in wanted.tolist():
        whole = values[region_of(tuple(coords), shape, box)]
        covered = np.zeros(whole.shape, int)
        for piece in layout.cut_box(coords):
            covered[piece.inside] += 1
            part = values[piece.region]
            if piece.number is not None:
                found = files[piece.number][piece.offset : piece.offset + part.size]
                assert np.array_equal(found.reshape(part.shape), part)
        assert (covered == 1).all()
