"""Compare an array in two passes, where the boxes of one pass would take more memory than they may.

::

    source ──read a cell──► digests of its pieces ─┐
                                                   ├─► equal?          a piece is what a cell and a box share
    store ───read a box───► digests of its pieces ─┘

Each chunk of the source and each key of the store is decoded once, and nothing but the digests is kept between the
passes: 16 bytes for each piece. Cells and boxes are those of a conversion (`h5bound.planning.spill_layout`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from h5bound.buffers import DIGEST_NBYTES, hash_bits, same_bits
from h5bound.chunk_grid import count_chunks, region_of, show_region
from h5bound.conversion.value_reads import read_or_explain
from h5bound.execution.work import Stages, UnitResult, Work
from h5bound.planning.spill_layout import number_chunk, number_chunks
from h5bound.planning.work_units import plan_cells
from h5bound.stores.array_reads import read_elements
from h5bound.verification.values import (
    COMPARE,
    Box,
    check_store,
    describe_unreadable,
    read_expected,
    report_unit,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from h5bound.chunk_grid import ChunkCoords
    from h5bound.execution.work import Progress, Run
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.spill_layout import SpillLayout
    from h5bound.planning.work_units import Unit
    from h5bound.reader.open_file import OpenFile
    from h5bound.verification.values import CompareJob


@dataclass(frozen=True, slots=True)
class CellDigests:
    """The digests of a cell of the source, or why it cannot be read."""

    result: UnitResult
    cell: int = 0
    """Number of the cell."""
    boxes: tuple[int, ...] = ()
    """Number of the box that each piece is for."""
    digests: bytes = b""
    """Digests of the pieces, end to end."""


@dataclass(frozen=True, slots=True, eq=False)
class BoxUnit:
    """A box of keys that is compared with digests of the source."""

    array: int
    """Number of the array among the jobs."""
    chunk_coords: ChunkCoords
    """Coordinates of the keys."""
    nbytes: int
    """Bytes in memory once read."""
    digests: bytes
    """Digests of the pieces that hold stored data, end to end, in the order of `SpillLayout.cut_box`."""


def compare_values(
    jobs: Sequence[CompareJob], units: Sequence[Unit], *, run: Run, progress: Progress | None
) -> list[UnitResult]:
    """Compare units with the store in one pass or two, and return the results.

    `run` is :func:`h5bound.execution.run.run_units` without the arguments that are passed here.
    """
    at_once = [unit for unit in units if jobs[unit.array].layout is None]
    boxes: dict[int, list[Unit]] = defaultdict(list)
    for unit in units:
        if jobs[unit.array].layout is not None:
            boxes[unit.array].append(unit)
    cells = {number: plan_cells(number, jobs[number].get_layout(), jobs[number].values.type.dtype) for number in boxes}
    stages = Stages(run, progress, sum(unit.nbytes for unit in chain(units, *cells.values())))
    results: list[UnitResult] = stages.run(COMPARE, jobs, at_once)
    for number, own_units in boxes.items():
        hashed: list[CellDigests] = stages.run(HASH, jobs, cells[number])
        problems = [item.result for item in hashed if item.result.problem]
        if problems or not jobs[number].arrays:
            results += problems or [UnitResult(number)]
        else:
            results += stages.run(CHECK, jobs, list_boxes(jobs[number], own_units, hashed))
    return results


def plan_passes(plan: ArrayPlan, chunk_coords: ChunkCoords) -> SpillLayout | None:
    """Return the cells and boxes in which some keys are compared; None if one pass is enough."""
    if plan.spill is None:
        return None
    counts = np.asarray(count_chunks(plan.spill.box, plan.node.write_shape))
    return replace(plan.spill, boxes=number_chunks(chunk_coords // counts, plan.spill.shape, plan.spill.box))


def list_boxes(job: CompareJob, units: Iterable[Unit], hashed: Iterable[CellDigests]) -> list[BoxUnit]:
    """Return the units of the second pass over an array, each with the digests of its cells."""
    expected: dict[int, bytearray] = defaultdict(bytearray)
    for item in sorted(hashed, key=lambda item: item.cell):  # the order of `SpillLayout.cut_box`
        for place, box in enumerate(item.boxes):
            expected[box] += item.digests[place * DIGEST_NBYTES : (place + 1) * DIGEST_NBYTES]
    layout = job.get_layout()
    boxes = []
    for unit in units:
        coords = layout.find_box(unit.chunk_coords[0].tolist(), job.values.write_shape)
        digests = bytes(expected[number_chunk(coords, layout.shape, layout.box)])
        boxes.append(BoxUnit(unit.array, unit.chunk_coords, unit.nbytes, digests))
    return boxes


def hash_cell(opened: OpenFile, job: CompareJob, unit: Unit) -> CellDigests:
    """Read a cell of the source, and return the digests of its pieces."""
    layout, coords = job.get_layout(), unit.chunk_coords[0].tolist()
    region = region_of(tuple(coords), layout.shape, layout.cell)
    result = read_or_explain(opened, job.values, lambda: read_expected(opened, job, region))
    if result.problem:
        problem = f"the source cannot be read: {result.problem}"
        return CellDigests(UnitResult(unit.array, chunks=1, problem=problem, unreadable=True))
    pieces = list(layout.cut_cell(coords)) if job.arrays else []
    return CellDigests(
        result=UnitResult(unit.array),
        cell=number_chunk(coords, layout.shape, layout.cell),
        boxes=tuple(piece.number for piece in pieces if piece.number is not None),
        digests=b"".join(hash_bits(result.parts[piece.inside]) for piece in pieces),
    )


def check_box(opened: OpenFile, job: CompareJob, unit: BoxUnit) -> UnitResult:
    """Compare a box of the store with the digests of the source; the result has the first piece that differs."""
    layout = job.get_layout()
    coords = layout.find_box(unit.chunk_coords[0].tolist(), job.values.write_shape)
    box = region_of(tuple(coords), layout.shape, layout.box)
    try:
        stored = Box.of(box, read_elements(job.arrays[0], box))
    except Exception as error:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
        return UnitResult(unit.array, chunks=1, problem=find_unreadable(job, unit.chunk_coords, error))
    problems, nbytes, places = [], 0, iter(range(0, len(unit.digests), DIGEST_NBYTES))
    for piece in layout.cut_box(coords):
        block = job.read_array(piece.region, stored)
        nbytes += block.nbytes
        if piece.number is not None:
            place = next(places)
            same = hash_bits(block) == unit.digests[place : place + DIGEST_NBYTES]
        else:  # nothing is stored there: this reads fill values, and decodes nothing
            expected = read_or_explain(opened, job.values, lambda: read_expected(opened, job, piece.region))  # noqa: B023 - called at once
            if expected.problem:
                problem = f"the source cannot be read: {expected.problem}"
                return UnitResult(unit.array, chunks=1, problem=problem, unreadable=True)
            same = same_bits(expected.parts, block.reshape(expected.parts.shape))
        if not same:
            problems.append(f"values differ in {show_region(piece.region)}")
    return UnitResult(unit.array, nbytes=nbytes, chunks=len(problems), problem=problems[0] if problems else "")


def find_unreadable(job: CompareJob, chunk_coords: ChunkCoords, error: Exception) -> str:
    """Return which of some keys of the store cannot be read, of which one gave an error when all were read at once."""
    array = job.arrays[0]
    for coords in map(tuple, chunk_coords.tolist()):
        try:
            read_elements(array, region_of(coords, array.shape, job.values.write_shape))
        except Exception as own:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
            return describe_unreadable(job, coords, own)
    return describe_unreadable(job, tuple(chunk_coords[0].tolist()), error)


HASH: Work[CellDigests] = Work(name="hash", read=hash_cell, use=report_unit, check=check_store, keeps=False)
"""The first of two passes."""

CHECK: Work[UnitResult] = Work(name="compare", read=check_box, use=report_unit, check=check_store, keeps=False)
"""The second of two passes."""
