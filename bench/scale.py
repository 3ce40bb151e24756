"""What arrays of terabytes cost in addition to their data: tasks, seconds and memory, on threads and on a cluster.

There is no data: blocks come from a resource whose reads take neither time nor memory, and the chunks of a conversion
from an invented manifest. As a script it prints tables, in about 15 minutes on 2 cores; ``--quick`` uses small
arrays. Every row is measured in a process of its own, and so is the scheduler of the cluster. Seconds are process time.
"""

from __future__ import annotations

import argparse
import gc
import resource
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.base import collections_to_expr
from dask.order import order
from h5py import h5t

import h5bound
from bench.turns import call_alone
from h5bound.graph.block_shapes import MAX_BLOCKS
from h5bound.hdf5.chunk_index import ChunkManifest
from h5bound.hdf5.dataset import DatasetRecord
from h5bound.planning.options import Settings
from h5bound.planning.plan import plan_array
from h5bound.planning.scan_dataset import DatasetScan
from h5bound.planning.work_units import plan_units
from h5bound.zarr_model.array_spec import CodecChain
from h5bound.zarr_model.dtypes import translate_type
from h5bound.zarr_model.fill_values import FillValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    Row = dict[str, float]
    """Figures by the heading of their column."""

KiB, MiB, GiB = 2**10, 2**20, 2**30
TB = 10**12


class Nothing:
    """A resource of zeros: a block of any size takes one element in memory."""

    def __dask_tokenize__(self) -> object:
        return "nothing"

    def open(self) -> None:
        """Open nothing."""

    def close(self) -> None:
        """Close nothing."""

    def block(self, block_info: Any) -> NDArray[np.uint8]:
        """Return a block."""
        return np.broadcast_to(np.uint8(0), block_info[None]["chunk-shape"])


@dataclass(frozen=True, slots=True)
class Case:
    """An array and how it is read."""

    blocks: int
    block: int = 16 * MiB  # bytes
    window: int = GiB  # bytes

    @property
    def windows(self) -> int:
        """Number of windows that the array is cut into."""
        return -(-self.blocks // max(self.window // self.block, 1))

    def count_tasks(self, *, clustered: bool) -> int:
        """Count the tasks of the array alone."""
        return (3 if clustered else 2) * self.blocks + self.windows + 1

    def make(self) -> da.Array:
        """Return the array."""
        nothing = Nothing()
        chunks = ((self.block,) * self.blocks,)
        return h5bound.from_resource(nothing, nothing.block, chunks=chunks, dtype="u1", window=self.window)

    def sum(self) -> da.Array:
        """Return a sum over one element of each block, so that whatever follows the blocks costs next to nothing."""
        firsts = self.make().map_blocks(lambda block: np.array(block[:1]), dtype="u1", chunks=((1,) * self.blocks,))
        return firsts.sum()


# What is measured, in a process of its own.


def measure_graph(case: Case) -> Row:
    """Build the graph of an array and order it, as every compute does."""
    from distributed.protocol import serialize

    start = time.process_time()
    array = case.make()
    built = time.process_time()
    _, frames = serialize(collections_to_expr((array,)))
    before = resident()
    culling = time.process_time()
    tasks = dict(dask.optimize(array)[0].__dask_graph__())
    culled = time.process_time()
    memory = resident() - before
    ordering = time.process_time()
    order(tasks)
    return {
        "tasks": len(tasks),
        "build, s": built - start,
        "cull, s": culled - culling,
        "order, s": time.process_time() - ordering,
        "memory, MiB": memory / MiB,
        "sent, KiB": sum(map(len, frames)) / KiB,
    }


def measure_threads(case: Case) -> Row:
    """Compute on threads."""
    array = case.sum()
    before = resident()
    start = time.process_time()
    array.compute(scheduler="threads")
    seconds, memory = time.process_time() - start, usage()[1] - before
    tasks = count_all(case)
    return {"tasks": tasks, "s": seconds, "ms/task": 1e3 * seconds / tasks, "peak, MiB": memory / MiB}


def measure_cluster(case: Case) -> Row:
    """Compute on two workers of two threads, with the scheduler in a process of its own."""
    from distributed import Client
    from distributed.deploy.subprocess import SubprocessCluster

    tasks = count_all(case) + case.blocks  # one more that says which worker has the block
    with (
        SubprocessCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2)
        Case(100).sum().compute()
        before, began = client.run_on_scheduler(usage), time.perf_counter()
        case.sum().compute()
        seconds = time.perf_counter() - began
        after = client.run_on_scheduler(usage)
    return {
        "tasks": tasks,
        "waited, s": seconds,
        "scheduler, s": after[0] - before[0],
        "ms/task": 1e3 * (after[0] - before[0]) / tasks,
        "scheduler, MiB": (after[1] - before[1]) / MiB,
        "KiB/task": (after[1] - before[1]) / tasks / KiB,
    }


def measure_plan(chunks: int, stored: int) -> Row:
    """Plan the conversion of a dataset with this number of chunks, of `stored` encoded bytes each."""
    side = round(chunks ** (1 / 3))
    before = resident()
    cells = np.indices((side,) * 3).reshape(3, -1).T.copy()
    count = len(cells)
    index = ChunkManifest(
        chunk_coords=cells,
        offsets=np.arange(count) * stored,
        nbytes=np.full(count, stored),
        masks=np.zeros(count, np.int64),
    )
    indexed = resident()
    started = time.process_time()
    plan = plan_array(declare(side, index), Settings(), count)
    units = plan_units([plan], 2**30)
    seconds = time.process_time() - started
    return {
        "chunks": count,
        "stored, GB": count * stored / 10**9,
        "index, B/chunk": (indexed - before) / count,
        "plan, s": seconds,
        "units": len(units),
        "plan, B/chunk": (resident() - indexed) / count,
        "plan, MiB": (resident() - indexed) / MiB,
    }


def declare(side: int, index: ChunkManifest) -> DatasetScan:
    """Return the scan of a dataset in chunks of 64 x 64 x 64 bytes, `side` chunks along each axis."""
    chunk = (64,) * 3
    dtype = np.dtype("u1")
    shape = (side * 64,) * 3
    record = DatasetRecord(
        "/x", shape, dtype, "chunked", chunk, (), int(index.nbytes.sum()), len(index.chunk_coords), False, None, ()
    )
    chain = CodecChain((), ({"id": "zstd", "level": 3},))
    fill = FillValue(np.zeros((), dtype), 0, exact=True)
    return DatasetScan(
        record=record,
        type=translate_type(h5t.STD_U8LE),
        target="x",
        copy_chain=chain,
        no_copy_reason="",
        manifest=index,
        fill=fill,
        attributes={},
    )


def count_all(case: Case) -> int:
    """Count the tasks of a sum on threads."""
    (optimized,) = dask.optimize(case.sum())
    return len(dict(optimized.__dask_graph__()))


def resident() -> int:
    """Return the resident memory of this process now, in bytes."""
    gc.collect()
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def usage() -> tuple[float, int]:
    """Return the process time in seconds, and the peak resident memory in bytes."""
    return time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KiB


# The tables.


def show(title: str, rows: Iterable[tuple[Row, Row]]) -> list[Row]:
    """Print rows as they come, parameters before measurements; return them."""
    print(f"\n{title}\n", flush=True)
    shown: list[Row] = []
    for asked, measured in rows:
        row = asked | measured
        if not shown:
            print("| " + " | ".join(row) + " |\n|" + "---:|" * len(row))
        print("| " + " | ".join(map(spell, row.values())) + " |", flush=True)
        shown.append(row)
    return shown


def spell(value: float) -> str:
    """Return a figure with a sensible number of digits.

    >>> spell(1234567), spell(1234.5), spell(0.01234)
    ('1,234,567', '1,234', '0.012')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


def graph_rows(totals: Iterable[int], sizes: Iterable[int]) -> Iterator[tuple[Row, Row]]:
    """Yield the graphs of arrays of these sizes in blocks of these sizes, except those that h5bound refuses."""
    for total in totals:
        for size in sizes:
            case = Case(-(-total // size), size)
            if case.blocks <= MAX_BLOCKS:
                asked = {"GB": total // 10**9, "block, MiB": size / MiB, "blocks": case.blocks}
                yield asked, call_alone(measure_graph, case)


def compute_rows(measure: Callable[[Case], Row], cases: Iterable[Case]) -> Iterator[tuple[Row, Row]]:
    """Yield computes on threads or on a cluster."""
    for case in cases:
        asked = {"blocks": case.blocks, "block, MiB": case.block / MiB, "window, MiB": case.window / MiB}
        yield asked | {"windows": case.windows}, call_alone(measure, case)


def plan_rows(counts: Iterable[tuple[int, int]]) -> Iterator[tuple[Row, Row]]:
    """Yield the plans of conversions, by number of chunks and encoded bytes of each chunk."""
    for chunks, stored in counts:
        yield {"stored chunk, KiB": stored // KiB}, call_alone(measure_plan, chunks, stored)


def project(measured: Row, totals: Iterable[int], sizes: Iterable[int]) -> Iterator[tuple[Row, Row]]:
    """Yield what a compute would cost a scheduler, from the measured cost of a task."""
    for total in totals:
        for size in sizes:
            case = Case(-(-total // size), size)
            tasks = round(case.count_tasks(clustered=True) + case.blocks * 4 / 3)  # a sum, in a tree of fours
            yield (
                {"GB": total // 10**9, "block, MiB": size / MiB, "blocks": case.blocks, "tasks": tasks},
                {
                    "scheduler, min": tasks * measured["ms/task"] / 60e3,
                    "scheduler, GiB": tasks * measured["KiB/task"] * KiB / GiB,
                    "GB/s at most": total / 10**6 / (tasks * measured["ms/task"]),
                    "refused": int(case.blocks > MAX_BLOCKS),
                },
            )


@dataclass(frozen=True, slots=True)
class Extent:
    """Sizes of the arrays in the tables."""

    totals: tuple[int, ...]  # bytes
    sizes: tuple[int, ...]  # MiB of a block
    windows: tuple[int, ...]  # MiB
    threads: int  # blocks computed on threads
    cluster: tuple[int, ...]  # blocks computed on a cluster
    windowed: int  # blocks computed on a cluster in windows of several sizes
    chunks: int  # of a conversion


FULL = Extent(
    totals=(TB, 10 * TB),
    sizes=(1, 4, 16, 64, 256),
    windows=(64, 256, 1024, 4096, 16384),
    threads=60_000,
    cluster=(4_000, 16_000, 64_000),
    windowed=4_096,
    chunks=10_000_000,
)
QUICK = Extent(
    totals=(TB // 100,), sizes=(16, 256), windows=(256,), threads=600, cluster=(100,), windowed=64, chunks=10_000
)


def tabulate(extent: Extent) -> None:
    """Print all tables."""
    sizes = [size * MiB for size in extent.sizes]
    show("Graphs on threads, windows of 1 GiB", graph_rows(extent.totals, sizes))
    by_window = [Case(extent.threads, 16 * MiB, window * MiB) for window in extent.windows]
    show("Computes on threads, by windows", compute_rows(measure_threads, by_window))
    by_blocks = [Case(blocks, 16 * MiB) for blocks in extent.cluster]
    cluster = show("Computes on a cluster, by blocks", compute_rows(measure_cluster, by_blocks))
    by_window = [Case(extent.windowed, 16 * MiB, window * MiB) for window in extent.windows]
    show("Computes on a cluster, by windows", compute_rows(measure_cluster, by_window))
    projected = project(cluster[-1], extent.totals, sizes)
    show("What a sum asks of the scheduler, projected from the largest of these", projected)
    chunks = [(extent.chunks, 16 * KiB), (extent.chunks, MiB)]
    show("Plans of conversions that keep chunks", plan_rows(chunks))


def main() -> None:
    """Read the command line and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small arrays, in some seconds")
    tabulate(QUICK if parser.parse_args().quick else FULL)


if __name__ == "__main__":
    import_module("bench.scale").main()  # workers know its functions by this name
