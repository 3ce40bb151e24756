"""The spill of a conversion: what the first of two passes over an array writes, and the second one reads.

::

    read_cell ──► write_cell ──► a file for each cell ──► read_box ──► write_unit

The files are in a folder of their own, in the target where that is a directory, and else where `temporary` says. A
killed conversion leaves it. In the target it is no key of the plan, so that the next conversion deletes it. Elsewhere
the next conversion into the same target finds it by its name, and deletes it if nobody has locked it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from h5bound.buffers import bytes_of, new_block
from h5bound.chunk_grid import region_of
from h5bound.conversion.transfer import TRANSFER, check_target, write_unit
from h5bound.conversion.value_reads import ReadResult, cut_block, read_or_explain, read_region
from h5bound.errors import OptionError, TargetError, naming
from h5bound.execution.work import Stages, UnitResult, Work, list_problems
from h5bound.planning.spill_layout import number_chunk
from h5bound.planning.work_units import plan_cells
from h5bound.stores.lock import LockedFile, is_locked
from h5bound.stores.target import LocalTarget
from h5bound.zarr_model.node_names import PARTIAL_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from h5bound.buffers import Block
    from h5bound.conversion.job import Job
    from h5bound.execution.work import Progress, Run
    from h5bound.planning.store_plan import StorePlan
    from h5bound.planning.work_units import Unit
    from h5bound.reader.open_file import OpenFile
    from h5bound.stores.target import Target


LOCK = "lock"
"""File in the folder of a spill outside of the target, locked as long as the conversion runs."""

WRITE_NBYTES = 1 << 20
"""Bytes of small pieces that are written at once."""


def transfer_units(
    jobs: Sequence[Job],
    units: Sequence[Unit],
    *,
    run: Run,
    temporary: Path | None,
    progress: Progress | None,
) -> list[UnitResult]:
    """Read and write units in one pass, or in two where the job has a layout for it; return the results.

    `run` is :func:`h5bound.execution.run.run_units` without the arguments that are passed here. `temporary` is a
    directory for the spill; None for the target if that is a directory, else for the system's.
    """
    at_once = [unit for unit in units if jobs[unit.array].layout is None]
    spilled = sorted({unit.array for unit in units} - {unit.array for unit in at_once})
    cells = {number: plan_cells(number, jobs[number].get_layout(), jobs[number].node.dtype) for number in spilled}
    stages = Stages(run, progress, sum(unit.nbytes for unit in chain(units, *cells.values())))
    results = stages.run(TRANSFER, jobs, at_once)
    spills = any(job.layout is not None for job in jobs)  # also if all is written: a killed one left files
    with spill_folder(jobs[0].target, temporary) if spills else nullcontext(Path()) as folder:
        for number in spilled:
            own_jobs = list(jobs)
            own_jobs[number] = replace(jobs[number], folder=folder / str(number))
            get_folder(own_jobs[number]).mkdir()
            results += stages.run(SPILL, own_jobs, cells[number])
            if not list_problems(jobs, results).get(jobs[number].path):
                results += stages.run(GATHER, own_jobs, [unit for unit in units if unit.array == number])
            shutil.rmtree(get_folder(own_jobs[number]))
    return results


def check_visible(target: Target, plan: StorePlan, temporary: Path | None, *, on_threads: bool) -> None:
    """Raise OptionError if tasks run in other processes, and the plan does not say where all of them reach a spill."""
    paths = [array.path for array in plan.arrays if array.spill is not None]
    if paths and not on_threads and temporary is None and not isinstance(target, LocalTarget):
        raise OptionError(
            f"{paths[0]} is read in two passes, and the workers need a directory between them that all of them reach: "
            "name one with temporary=, or pass a larger window"
        )


@contextmanager
def spill_folder(target: Target, temporary: Path | None) -> Iterator[Path]:
    """Yield a new folder for the spill, which is deleted at the end."""
    if temporary is None and isinstance(target, LocalTarget):  # its marker is locked
        folder, lock = target.keys.root / f"{uuid4().hex}{PARTIAL_SUFFIX}", None
        folder.mkdir()
    else:
        place = temporary or Path(tempfile.gettempdir())
        prefix = f"h5bound-{hashlib.blake2b(target.url.encode(), digest_size=8).hexdigest()}-"
        for left in place.glob(f"{prefix}*"):
            if (left / LOCK).exists() and not is_locked(left / LOCK):  # of a conversion that was killed
                shutil.rmtree(left, ignore_errors=True)
        subject = f"{place}: no temporary files can be made there; name another directory with temporary="
        with naming(subject, OSError, raising=TargetError):
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            lock = LockedFile(folder / LOCK, target.url)
    try:
        yield folder
    finally:
        if lock is not None:
            lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def read_cell(opened: OpenFile, job: Job, unit: Unit) -> ReadResult:
    """Read a cell; raise what `read_or_explain` raises."""
    layout = job.get_layout()
    region = region_of(tuple(unit.chunk_coords[0].tolist()), layout.shape, layout.cell)
    return read_or_explain(opened, job.values, lambda: read_region(opened, job.values, region), explain=job.skip)


def write_cell(job: Job, unit: Unit, result: ReadResult) -> UnitResult:
    """Write the file of a cell under a name of its own, and rename it: a task may run twice.

    Raise TargetError if it cannot be written.
    """
    if result.problem:
        return UnitResult(unit.array, problem=result.problem, unreadable=True)
    layout, folder, coords = job.get_layout(), get_folder(job), unit.chunk_coords[0].tolist()
    block = np.asarray(result.parts, job.node.dtype)
    path = folder / f"{uuid4().hex}{PARTIAL_SUFFIX}"
    subject = (
        f"{folder.parent}: the temporary files of {job.path} cannot be written; name a directory that has room for all "
        "its values with temporary=, or pass a larger window"
    )
    with naming(subject, OSError, raising=TargetError), path.open("xb", buffering=WRITE_NBYTES) as file:
        written = 0
        for piece in layout.cut_cell(coords):
            elements = bytes_of(np.ascontiguousarray(block[piece.inside]))
            offset = piece.offset * block.dtype.itemsize
            if offset != written:  # a seek empties the buffer
                file.seek(offset)
            file.write(elements)
            written = offset + elements.nbytes
    path.replace(folder / str(number_chunk(coords, layout.shape, layout.cell)))
    return UnitResult(unit.array)


def read_box(opened: OpenFile, job: Job, unit: Unit) -> ReadResult:
    """Read the box that the chunks of a unit are in from the files of its cells, and return views for the chunks.

    Raise TargetError if a file is gone.
    """
    layout, values, folder = job.get_layout(), job.values, get_folder(job)
    coords = layout.find_box(unit.chunk_coords[0].tolist(), values.write_shape)
    box = region_of(tuple(coords), layout.shape, layout.box)
    block, raw_view = new_block(tuple(part.stop - part.start for part in box), job.node.dtype)
    for piece in layout.cut_box(coords):
        if piece.number is None:  # nothing is stored there: this reads fill values, and decodes nothing
            result = read_or_explain(
                opened, values, partial(read_region, opened, values, piece.region), explain=job.skip
            )
            if result.problem:
                return result
            block[piece.inside] = result.parts
        else:
            read_piece(f"{folder}/{piece.number}", piece.offset * block.dtype.itemsize, raw_view[piece.inside])
    regions = [region_of(tuple(key), layout.shape, values.write_shape) for key in unit.chunk_coords.tolist()]
    return ReadResult(list(cut_block(block, box, regions)))


def read_piece(path: str, offset: int, out: Block) -> None:
    """Fill a part of a block from the file of a cell. Raise TargetError if the file is gone, or too short.

    There may be thousands of small pieces: a `Path` and a buffer would take twice the time.
    """
    elements = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
    try:
        with FileIO(path) as file:
            file.seek(offset)
            complete = file.readinto(bytes_of(elements)) == elements.nbytes
    except FileNotFoundError:
        complete = False
    if not complete:
        raise TargetError(f"{path}: a file of this conversion was deleted while it ran; convert again")
    if elements is not out:
        out[...] = elements


def get_folder(job: Job) -> Path:
    """Return the folder of the spill of an array that is read in two passes."""
    assert job.folder is not None
    return job.folder


def check_folder(job: Job) -> None:
    """Raise TargetError if this process does not see the target, or the folder of the spill."""
    check_target(job)
    if not get_folder(job).is_dir():
        raise TargetError(f"{job.folder}: not visible to this worker; name a directory that all reach: temporary=")


SPILL = Work(name="spill", read=read_cell, use=write_cell, check=check_folder)
"""The first of two passes."""

GATHER = Work(name="write", read=read_box, use=write_unit, check=check_folder, delete_partial=TRANSFER.delete_partial)
"""The second of two passes."""
