"""Arrays that are joined from several files: what is copied, what is decoded, and that the values are right."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from h5bound import combine
from h5bound.combining import stored_chunks
from h5bound.combining.combined_plan import plan_combined
from h5bound.combining.join_plan import plan_join
from h5bound.combining.stored_chunks import FileChunks
from h5bound.conversion.provenance import list_inputs
from h5bound.conversion.spill import transfer_units
from h5bound.conversion.write_store import write_store
from h5bound.errors import UnsafeSourceError
from h5bound.execution.run import run_units
from h5bound.hdf5.hierarchy import Limits
from h5bound.planning.options import Settings
from h5bound.planning.pieces import NO_FILE, Pieces
from h5bound.planning.scan import scan_source
from h5bound.reader.many_files import ManyFiles
from h5bound.reader.source import H5Source
from h5bound.stores.resolve import open_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from h5bound.combining.join_plan import JoinPlan
    from h5bound.planning.scan import SourceScan

    Files = Mapping[str, Mapping[int, FileChunks]]

pytestmark = pytest.mark.filterwarnings("ignore:.*Numcodecs codecs are not in the Zarr version 3:UserWarning")


def write_files(folder: Path, blocks: Sequence[NDArray[Any]], chunks: tuple[int, ...], **options: Any) -> list[Path]:
    """Write a file for each block of values, and return their paths."""
    paths = []
    for number, block in enumerate(blocks):
        paths.append(folder / f"{number}.h5")
        with h5py.File(paths[-1], "w") as file:
            file.create_dataset("x", data=block, chunks=chunks, maxshape=(None, *block.shape[1:]), **options)
            file["lat"] = np.arange(3.0)
    return paths


def scan_joined(
    paths: Sequence[Path], pieces: Pieces, shape: tuple[int, ...], config: Settings
) -> tuple[SourceScan, Files]:
    """Return the scan of the files as one, and what each stores of ``/x``."""
    sources = [H5Source.of(path) for path in paths]
    scans = []
    for source in sources:
        with source.opened() as opened:
            scans.append(scan_source(source, opened, settings=config, limits=Limits()))
    found = [next(item for item in scan.datasets if item.record.path == "/x") for scan in scans]
    chunks = {
        number: FileChunks(
            manifest=item.manifest,
            chunks=item.chunks,
            is_stored=item.record.stored_nbytes > 0,
            is_same=item.copy_chain == found[0].copy_chain and item.chunks == found[0].chunks,
            has_fill=True,
        )
        for number, item in enumerate(found)
    }
    joined = replace(found[0], pieces=pieces, record=replace(found[0].record, shape=shape))
    others = [replace(item, origin=1) for item in scans[0].datasets if item.record.path != "/x"]
    many: Any = ManyFiles(sources)
    origin = replace(scans[0].origins[0], source=many)
    scan = replace(scans[0], origins=(origin, scans[0].origins[0]), datasets=(joined, *others))
    return scan, {"/x": chunks}


def write_joined(folder: Path, scan: SourceScan, chunks: Files, config: Settings) -> list[JoinPlan]:
    """Write the store of a scan, and return the plans of its joined arrays."""
    plan, joins = plan_combined(scan, chunks, config, limits=Limits(), grids={}, window=2**20, threads=2)
    run = partial(run_units, sources=scan.sources, window=2**20)
    transfer = partial(transfer_units, run=run, temporary=None, progress=None)
    inputs = list_inputs(replace(scan, origins=scan.origins[1:]), config, Limits())
    write_store(
        open_target(folder / "out.zarr", config.zarr_format, None), scan, plan, inputs=inputs, transfer=transfer,
        skip=False, resume=False, overwrite=True,
    )  # fmt: skip
    return joins


def read(folder: Path, name: str = "x") -> Any:
    """Return the values of an array of the store."""
    return zarr.open_group(folder / "out.zarr", mode="r")[name][...]  # type: ignore[index]


def join_blocks(blocks: Sequence[NDArray[Any]]) -> Pieces:
    """Return the pieces of whole files, one after another."""
    lengths = [len(block) for block in blocks]
    kept = [number for number, length in enumerate(lengths) if length]
    return Pieces(
        axis=0,
        bounds=np.cumsum([0, *(lengths[number] for number in kept)]).astype(np.int64),
        files=np.array(kept, np.int64),
        skipped=np.zeros(len(kept), np.int64),
    )


@pytest.mark.parametrize("chunks", [(1, 10), (3, 10)], ids=["copied", "decoded"])
def test_the_plan_of_many_chunks_takes_no_more_than_100_bytes_for_each(tmp_path: Path, chunks: tuple[int, ...]) -> None:
    count, rows = 100, 1000
    (path,) = write_files(tmp_path, [np.zeros((rows, 10), "i2")], (1, 10))
    number = np.arange(count, dtype=np.int64)
    pieces = Pieces(axis=0, bounds=np.append(number, count) * rows, files=number, skipped=np.zeros(count, np.int64))
    scan, found = scan_joined([path], pieces, (count * rows, 10), Settings())
    item = next(item for item in scan.datasets if item.pieces is not None)
    files = dict.fromkeys(range(count), found["/x"][0])
    plan_join(item, files, Settings(chunks=(("/x", chunks),)), limit=10**6)  # makes what is made once
    tracemalloc.start()
    join = plan_join(item, files, Settings(chunks=(("/x", chunks),)), limit=10**6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(join.files) + len(join.array.chunk_coords) == -(-count * rows // chunks[0])
    assert peak < 100 * count * rows


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_chunks_on_the_grid_are_copied_and_seams_decoded(tmp_path: Path, zarr_format: Any) -> None:
    values = np.random.default_rng(0).integers(0, 99, (30, 5, 6)).astype("i2")
    blocks = np.split(values, [8, 16, 22])  # the last file begins within a chunk
    paths = write_files(tmp_path, blocks, (4, 5, 3), compression="gzip", shuffle=True)
    config = Settings(zarr_format=zarr_format)
    scan, chunks = scan_joined(paths, join_blocks(blocks), values.shape, config)
    (join,) = write_joined(tmp_path, scan, chunks, config)
    assert sorted(zip(join.files.tolist(), join.coords[:, 0].tolist(), strict=True)) == [
        (0, 0), (0, 0), (0, 1), (0, 1), (1, 2), (1, 2), (1, 3), (1, 3), (2, 4), (2, 4),
    ]  # fmt: skip
    assert np.unique(join.array.chunk_coords[:, 0]).tolist() == [5, 6, 7]
    np.testing.assert_array_equal(read(tmp_path), values)
    np.testing.assert_array_equal(read(tmp_path, "lat"), np.arange(3.0))
    with h5py.File(paths[1]) as file:  # the stored bytes themselves
        encoded = file["x"].id.read_direct_chunk((4, 0, 3))[1]
    name = "x/c/3/0/1" if zarr_format == 3 else "x/3.0.1"
    assert (tmp_path / "out.zarr" / name).read_bytes() == encoded


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    chunk=st.integers(1, 5),
    options=st.sampled_from([{}, {"compression": "gzip"}, {"fillvalue": 7}]),
    config=st.sampled_from(
        [
            Settings(),
            Settings(zarr_format=2),
            Settings(chunks=(("/x", (3, 2)),)),
            Settings(shards=(("/x", (8, 4)),), chunks=(("/x", (4, 2)),)),
            Settings(codecs="zstd:3"),
        ]
    ),
    written=st.booleans(),
)
def test_any_lengths_give_the_values_of_all_files(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    chunk: int,
    options: dict[str, Any],
    config: Settings,
    written: bool,
) -> None:
    folder = tmp_path_factory.mktemp("join")
    blocks = np.split(np.arange(sum(lengths) * 3, dtype="f4").reshape(-1, 3), np.cumsum(lengths)[:-1])
    paths = write_files(folder, blocks, (chunk, 2), **options)
    if not written:  # the last rows of each file have the fill value
        for path, block in zip(paths, blocks, strict=True):
            with h5py.File(path, "a") as file:
                file["x"].resize(len(block) // 2, 0)
                file["x"].resize(len(block), 0)
    expected = np.concatenate([h5py.File(path)["x"][:] for path in paths])
    scan, chunks = scan_joined(paths, join_blocks(blocks), expected.shape, config)
    write_joined(folder, scan, chunks, config)
    np.testing.assert_array_equal(read(folder), expected)


def test_pieces_may_be_parts_of_files_and_missing(tmp_path: Path) -> None:
    blocks = [np.arange(8.0).reshape(8, 1), np.arange(100.0, 108.0).reshape(8, 1)]
    paths = write_files(tmp_path, blocks, (2, 1))
    pieces = Pieces(
        axis=0,
        bounds=np.array([0, 5, 8, 11]),
        files=np.array([0, NO_FILE, 1]),
        skipped=np.array([2, 0, 1]),
        fill=np.zeros(()),
    )
    scan, chunks = scan_joined(paths, pieces, (11, 1), Settings())
    (join,) = write_joined(tmp_path, scan, chunks, Settings())
    expected = np.concatenate([blocks[0][2:7], np.zeros((3, 1)), blocks[1][1:4]])
    np.testing.assert_array_equal(read(tmp_path), expected)
    assert join.coords[:, 0].tolist() == [0, 1]  # of the first file; the other one begins within a chunk


def test_each_file_may_be_one_element_of_a_new_axis(tmp_path: Path) -> None:
    blocks = [np.full((4, 2), number, "i4") for number in range(3)]
    paths = write_files(tmp_path, blocks, (2, 2), compression="gzip")
    pieces = Pieces(axis=0, is_new=True, bounds=np.arange(4), files=np.arange(3), skipped=np.zeros(3, np.int64))
    scan, chunks = scan_joined(paths, pieces, (3, 4, 2), Settings())
    item = scan.datasets[0]
    record = replace(item.record, chunks=(1, 2, 2))
    names = ("run", *(item.dimension_names or ()))
    scan = replace(scan, datasets=(replace(item, record=record, dimension_names=names), *scan.datasets[1:]))
    (join,) = write_joined(tmp_path, scan, chunks, Settings())
    np.testing.assert_array_equal(read(tmp_path), np.stack(blocks))
    assert len(join.files) == 6
    assert not len(join.array.chunk_coords)


def test_a_chunk_with_a_filter_mask_is_decoded(tmp_path: Path) -> None:
    blocks = [np.arange(4, dtype="i4"), np.arange(4, 8, dtype="i4")]
    paths = write_files(tmp_path, blocks, (2,), compression="gzip")
    with h5py.File(paths[1], "a") as file:
        file["x"].id.write_direct_chunk((2,), np.array([6, 7], "i4").tobytes(), filter_mask=1)
    scan, chunks = scan_joined(paths, join_blocks(blocks), (8,), Settings())
    join = plan_join(scan.datasets[0], chunks["/x"], Settings(), limit=100)
    assert join.coords[:, 0].tolist() == [0, 1, 2]
    assert join.array.chunk_coords[:, 0].tolist() == [3]
    write_joined(tmp_path, scan, chunks, Settings())
    np.testing.assert_array_equal(read(tmp_path), np.arange(8))


def test_chunks_of_the_store_that_many_files_share_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_chunks, "BOXES_AT_ONCE", 3)
    blocks = [np.arange(2, dtype="i4") + 2 * number for number in range(20)]
    scan, chunks = scan_joined(write_files(tmp_path, blocks, (1,)), join_blocks(blocks), (40,), Settings())
    plan = partial(plan_join, scan.datasets[0], chunks["/x"], Settings(chunks=(("/x", (40,)),)))
    assert plan(limit=1).array.chunk_coords.tolist() == [[0]]
    with pytest.raises(UnsafeSourceError, match="more than 3"):
        plan_join(scan.datasets[0], chunks["/x"], Settings(chunks=(("/x", (8,)),)), limit=3)


def test_files_are_planned_alike_one_by_one_and_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, start = [], 0
    for number, (rows, chunk) in enumerate([(4, 2), (4, 2), (4, 4), (3, 2), (5, 2), (4, 2), (5, 2)]):
        paths.append(tmp_path / f"{number}.h5")
        with h5py.File(paths[-1], "w") as file:
            file.create_dataset("time", data=np.arange(start, start + rows), chunks=(chunk,), maxshape=(None,))
            file["time"].make_scale("time")
            file.create_dataset("x", data=np.arange(start, start + rows) * 3, chunks=(chunk,), compression="gzip")
            file["x"].dims[0].attach_scale(file["time"])
        start += rows - (number == 1)  # the third file begins with the last element of the second
    reports = []
    for number, batch in enumerate((1, 5, 100)):
        monkeypatch.setattr(stored_chunks, "BATCH", batch)
        reports.append(combine(paths, tmp_path / f"{number}.zarr", dim="time", overlap="first", cache=False))
        array: Any = zarr.open_group(tmp_path / f"{number}.zarr", mode="r")["x"]
        assert array[:].tolist() == [*range(0, start * 3, 3)]
    assert {(report.copied, report.decoded) for report in reports} == {(12, 16)}


@pytest.mark.parametrize("place", [2**31 + 3, 2**32 + 9], ids=["31 bits", "32 bits"])
def test_more_chunks_along_an_axis_than_32_bits_count_are_joined(tmp_path: Path, place: int) -> None:
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"{number}.h5")
        with h5py.File(paths[-1], "w") as file:
            file.create_dataset("x", (2**33,), "i1", chunks=(1,))[place] = 7 + number
    files = [io.BytesIO(path.read_bytes()) for path in paths]  # HDF5 reads their chunks by coordinates
    for sources, target in ((paths, "a.zarr"), (files, "b.zarr")):
        result = combine(sources, tmp_path / target, dim="phony_dim_0", max_chunks=2**40)
        assert result.copied == 2
        array: Any = zarr.open_group(tmp_path / target, mode="r")["x"]
        assert [int(array[number * 2**33 + place]) for number in range(2)] == [7, 8]
