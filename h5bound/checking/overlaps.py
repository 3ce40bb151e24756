"""Chunks that share bytes of the file, which HDF5 never writes: a chunk index is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from h5bound.checking.values import CheckJob
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.reports.check import Damage

    Manifests = Sequence[tuple[CheckJob, ChunkManifest]]

MOST = 1000
"""Most overlaps that are listed."""


def find_overlaps(manifests: Manifests) -> list[Damage]:
    """Return chunks of the datasets of one file with bytes that another chunk has, too."""
    if not manifests:
        return []
    starts = np.concatenate([manifest.offsets for _, manifest in manifests])
    sizes = np.concatenate([manifest.nbytes for _, manifest in manifests])
    firsts = np.cumsum([0, *(len(manifest.offsets) for _, manifest in manifests)])
    damages = []
    for one, other in list_pairs(starts, starts + sizes)[:MOST].tolist():
        (number, row), (its_number, its_row) = find_chunk(firsts, one), find_chunk(firsts, other)
        job, manifest = manifests[its_number]
        name = f"{job.path}{job.show(manifest.chunk_coords[its_row])}"
        job, manifest = manifests[number]
        damages.append(job.describe(manifest, row, f"the chunk index is damaged: {name} has some of the same bytes"))
    return damages


def list_pairs(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pairs of intervals that overlap, each but the first of several with one that begins before it.

    >>> list_pairs(np.array([0, 20, 8, 9]), np.array([10, 30, 9, 12])).tolist()
    [[2, 0], [3, 0]]
    """
    order = np.argsort(starts, kind="stable")
    starts, stops = starts[order], stops[order]
    order, starts, stops = (values[stops > starts] for values in (order, starts, stops))
    ends = np.maximum.accumulate(stops)
    later = np.flatnonzero(starts[1:] < ends[:-1])
    return np.stack([order[later + 1], order[np.searchsorted(ends, ends[later])]], axis=1)


def find_chunk(firsts: NDArray[np.int64], number: int) -> tuple[int, int]:
    """Return the dataset and the row of a chunk, by its number among those of all datasets.

    >>> find_chunk(np.array([0, 2, 2, 5]), 2)
    (2, 0)
    """
    dataset = int(np.searchsorted(firsts, number, side="right")) - 1
    return dataset, number - int(firsts[dataset])
