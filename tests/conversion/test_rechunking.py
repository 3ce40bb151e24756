"""Conversions to other chunks: each stored chunk is decoded once, and the store is the same for any window."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from h5bound import combine, convert, verify
from h5bound.codecs.chunk_decoder import Decoder
from h5bound.errors import CorruptChunkError, OptionError, TargetError
from h5bound.execution import windows
from tests.support.http_server import serve

SHAPE = (8, 256, 256)
STORED = (1, 256, 256)
VALUES = (np.arange(8 * 256 * 256) % 2503).reshape(SHAPE).astype("<i4")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the encoded size of each chunk that is decoded."""
    sizes: list[int] = []
    decode, decode_all = Decoder.decode, Decoder.decode_all

    def count(self: Decoder, encoded: Any, out: Any, mask: int) -> None:
        sizes.append(len(encoded))
        decode(self, encoded, out, mask)

    def count_all(self: Decoder, encoded: Any, mask: int) -> Any:
        sizes.extend(encoded.sizes.tolist())
        return decode_all(self, encoded, mask)

    monkeypatch.setattr(Decoder, "decode", count)
    monkeypatch.setattr(Decoder, "decode_all", count_all)
    return sizes


def write(path: Path, **options: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VALUES, **options)


def read(path: Any) -> Any:
    return zarr.open_group(path, mode="r")["x"][...]  # type: ignore[index]


def convert_in_two_passes(path: Path | str, target: Any, **options: Any) -> Any:
    """Convert the dataset to keys of 8 x 16 x 16 in windows that are smaller than all of it."""
    return convert(path, target, **{"chunks": (8, 16, 16), "window": 2**20, "workers": 2, **options})


def list_files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all keys that are not metadata documents."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("zarr.json", "h5bound.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (4, 256, 256)},
        {"chunks": (1, 64, 64)},
        {"chunks": (8, 64, 64)},
        {"chunks": (8, 16, 16)},
        {"chunks": (3, 7, 256)},
        {"chunks": (8, 16, 16), "shards": (8, 64, 32)},
        {"chunks": (8, 16, 16), "zarr_format": 2},
    ],
    ids=str,
)
def test_each_stored_chunk_is_decoded_once(tmp_path: Path, decoded: list[int], options: dict[str, Any]) -> None:
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", **options)
    assert len(decoded) == SHAPE[0]
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), VALUES)
    assert verify(tmp_path / "a.h5", tmp_path / "a.zarr").equal


@pytest.mark.parametrize(
    ("window", "options"),
    [
        (2**16, {"chunks": (8, 32, 32)}),
        (2**20, {"chunks": (8, 16, 16)}),
        (2**18, {"chunks": (5, 13, 99)}),
        (2**18, {"chunks": (8, 16, 16), "shards": (8, 64, 32)}),
    ],
    ids=str,
)
def test_two_passes_decode_each_stored_chunk_once(
    tmp_path: Path, decoded: list[int], window: int, options: dict[str, Any]
) -> None:
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    convert_in_two_passes(tmp_path / "a.h5", tmp_path / "a.zarr", window=window, **options)
    assert len(decoded) == SHAPE[0]
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), VALUES)
    assert verify(tmp_path / "a.h5", tmp_path / "a.zarr").equal
    convert(tmp_path / "a.h5", tmp_path / "b.zarr", **options)
    assert list_files(tmp_path / "a.zarr") == list_files(tmp_path / "b.zarr"), "the window changes the store"


@pytest.mark.parametrize("fill", [7, None])
def test_only_keys_that_hold_stored_data_are_written(tmp_path: Path, decoded: list[int], fill: int | None) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", SHAPE, "<i4", chunks=STORED, compression="gzip", fillvalue=fill)
        dataset[3], dataset[6] = 1, 2
        expected = dataset[...]
    for window, passes in ((2**30, 1), (2**20, 2)):
        decoded.clear()
        target = tmp_path / f"{passes}.zarr"
        report = convert(tmp_path / "a.h5", target, chunks=(2, 128, 128), window=window)
        assert len(decoded) == 2
        assert report.arrays[0].chunks == 8
        np.testing.assert_array_equal(read(target), expected)


def test_a_contiguous_dataset_is_read_in_whole_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(8, 16, 16))
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), VALUES)


def test_a_resumed_conversion_writes_only_the_keys_that_are_missing(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(8, 16, 16))
    whole = list_files(tmp_path / "a.zarr")
    shutil.rmtree(tmp_path / "a.zarr")
    with pytest.raises(RuntimeError):
        convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(8, 16, 16), progress=fail)
    for key in list(whole)[::3]:
        (tmp_path / "a.zarr" / key).unlink(missing_ok=True)
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(8, 16, 16), resume=True)
    assert list_files(tmp_path / "a.zarr") == whole


def test_a_failed_second_pass_leaves_no_spill_and_is_resumed(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    source, target, whole = tmp_path / "a.h5", tmp_path / "a.zarr", tmp_path / "whole.zarr"
    convert_in_two_passes(source, whole)

    def stop(done: int, total: int) -> None:
        if done > 0.8 * total:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        convert_in_two_passes(source, target, progress=stop)
    begun = list_files(target)
    assert 1 < len(begun) < len(list_files(whole))
    assert begun.keys() - list_files(whole).keys() == {"h5bound-unfinished.json"}
    convert_in_two_passes(source, target, resume=True, window=2**19)
    assert list_files(target) == list_files(whole)


def test_a_dry_run_tells_passes_memory_and_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    stored = convert(tmp_path / "a.h5", tmp_path / "kept.zarr").arrays[0].stored_nbytes
    options: Any = {"chunks": (8, 16, 16), "dry_run": True}
    for window, passes in ((2**30, 1), (2**20, 2)):
        report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", window=window, **options)
        assert report.to_dict()["converted"][1]["rechunking"] == {  # type: ignore[index]
            "passes": passes,
            "memory_bytes": min(VALUES.nbytes, window),
            "read_bytes": stored,
            "written_bytes": VALUES.nbytes,
            "temporary_bytes": VALUES.nbytes if passes == 2 else 0,
        }
        assert f"rechunked: /x: {'1 pass' if passes == 1 else '2 passes'}, " in repr(report)
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(2, 256, 256), dry_run=True)
    assert report.arrays[0].rechunking is None
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_dry_run_tells_the_memory_of_the_windows_that_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """A sixteenth of a file is half a chunk of it, of two files a chunk, and each thread has one in a window."""
    monkeypatch.setattr(windows, "MIN_WINDOW", 1)
    paths, chunk = [tmp_path / "a.h5", tmp_path / "b.h5"], VALUES.nbytes // SHAPE[0]
    for path in paths:
        write(path, chunks=STORED, compression="gzip")
    options: Any = {"window": 2**20, "workers": workers, "dry_run": True}
    report = convert(paths[0], tmp_path / "a.zarr", chunks=(8, 16, 16), **options)
    assert report.arrays[0].rechunking.memory == 2 * chunk  # type: ignore[union-attr]
    combined = combine(paths, tmp_path / "b.zarr", new_dim="n", chunks=(1, 8, 16, 16), **options)
    assert combined.conversion.arrays[0].rechunking.memory == 2 * workers * chunk  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "options", [{"window": 2**30}, {"window": 2**20}, {"window": 2**20, "overwrite": True}], ids=str
)
def test_a_remote_file_is_fetched_once(tmp_path: Path, options: dict[str, Any]) -> None:
    pytest.importorskip("aiohttp")
    values = np.random.default_rng(0).integers(0, 2**32, (32, 512, 256), np.uint32)
    (tmp_path / "served").mkdir()
    with h5py.File(tmp_path / "served" / "a.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(1, 512, 256))
    with serve(tmp_path / "served") as server:
        report = convert(f"{server.url}/a.h5", tmp_path / "a.zarr", chunks=(32, 64, 64), codecs="none", **options)
        fetched = server.nbytes()
    assert report.complete
    assert fetched <= 1.1 * (tmp_path / "served" / "a.h5").stat().st_size, "windows read the metadata again"
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), values)


KILLED = """
import os, signal, sys
from h5bound import convert
def stop(done, total):
    if done > {share} * total:
        os.kill(os.getpid(), signal.SIGKILL)
convert({source!r}, {target!r}, chunks=(8, 16, 16), window=2**20, workers=2, temporary={temporary!r}, progress=stop)
"""


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.7])
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("again", [{"resume": True}, {"overwrite": True}], ids=str)
def test_nothing_of_a_killed_conversion_is_left(
    tmp_path: Path, share: float, elsewhere: bool, again: dict[str, bool]
) -> None:
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    source, target, temporary = (str(tmp_path / name) for name in ("a.h5", "a.zarr", "temporary"))
    Path(temporary).mkdir()
    place = temporary if elsewhere else None
    code = KILLED.format(share=share, source=source, target=target, temporary=place)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert len(list(Path(place or target).rglob("*"))) > 1
    convert_in_two_passes(source, target, temporary=place, **again)
    assert list(Path(temporary).iterdir()) == []
    convert(source, tmp_path / "whole.zarr", chunks=(8, 16, 16))
    assert list_files(Path(target)) == list_files(tmp_path / "whole.zarr")
    np.testing.assert_array_equal(read(Path(target)), VALUES)


def test_files_of_a_conversion_that_was_killed_after_its_last_key_are_deleted(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    seen: set[str] = set()

    def stop(done: int, total: int) -> None:
        seen.update(path.name for path in temporary.iterdir())
        if done == total:
            raise RuntimeError

    options: dict[str, Any] = {"temporary": temporary, "progress": stop}
    with pytest.raises(RuntimeError):
        convert_in_two_passes(tmp_path / "a.h5", tmp_path / "a.zarr", **options)
    [name] = seen
    (temporary / name / "0").mkdir(parents=True)
    (temporary / name / "lock").touch()
    convert_in_two_passes(tmp_path / "a.h5", tmp_path / "a.zarr", resume=True, temporary=temporary)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", ["a.zarr.zip", "memory"])
def test_a_spill_is_beside_a_target_that_is_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    for folder in ("system", "named"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "system"))
    seen: dict[str, set[str]] = {"system": set(), "named": set()}

    def look(_done: int, _total: int) -> None:
        for folder, files in seen.items():
            files.update(path.name for path in (tmp_path / folder).rglob("*"))

    for temporary in (None, tmp_path / "named"):
        target: Any = zarr.storage.MemoryStore() if name == "memory" else tmp_path / name
        convert_in_two_passes(tmp_path / "a.h5", target, temporary=temporary, progress=look, overwrite=True)
        store: Any = target if name == "memory" else zarr.storage.ZipStore(target, mode="r")
        np.testing.assert_array_equal(read(store), VALUES)
        store.close()
    assert all(len(files) > 5 for files in seen.values())
    assert [list((tmp_path / folder).iterdir()) for folder in seen] == [[], []]


def test_a_spill_that_is_deleted_ends_the_conversion(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    (tmp_path / "temporary").mkdir()

    def delete(_done: int, _total: int) -> None:
        for path in (tmp_path / "temporary").rglob("[0-9]"):
            if path.is_file():
                path.unlink()

    with pytest.raises(TargetError, match="a file of this conversion was deleted while it ran"):
        convert_in_two_passes(tmp_path / "a.h5", tmp_path / "a.zarr", temporary=tmp_path / "temporary", progress=delete)
    with pytest.raises(OptionError, match="no such directory"):
        convert_in_two_passes(tmp_path / "a.h5", tmp_path / "b.zarr", temporary=tmp_path / "nowhere")


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(TargetError, match="temporary files of /x cannot be written; name a directory") as caught:
            convert_in_two_passes(tmp_path / "a.h5", tmp_path / "a.zarr")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "resume=True" in caught.value.__notes__[0]
    assert list(list_files(tmp_path / "a.zarr")) == ["h5bound-unfinished.json"]
    convert_in_two_passes(tmp_path / "a.h5", tmp_path / "a.zarr", resume=True)
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), VALUES)


def test_conversions_share_a_temporary_directory(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    (tmp_path / "temporary").mkdir()
    stores = [zarr.storage.MemoryStore() for _ in range(3)]
    convert_here = partial(convert_in_two_passes, tmp_path / "a.h5", temporary=tmp_path / "temporary", overwrite=True)
    with ThreadPoolExecutor(3) as pool:
        for _ in range(2):
            list(pool.map(convert_here, stores))
    for store in stores:
        np.testing.assert_array_equal(read(store), VALUES)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_damaged_chunk_ends_the_first_pass_or_is_reported(tmp_path: Path) -> None:
    source = tmp_path / "a.h5"
    write(source, chunks=STORED, compression="gzip")
    with h5py.File(source) as file:
        place = file["x"].id.get_chunk_info(4).byte_offset
    data = bytearray(source.read_bytes())
    data[place + 8 : place + 64] = bytes(56)
    source.write_bytes(data)
    with pytest.raises(CorruptChunkError, match=r"'/x' of .*: chunk at \(4, 0, 0\)"):
        convert_in_two_passes(source, tmp_path / "a.zarr")
    report = convert_in_two_passes(source, tmp_path / "b.zarr", on_unsupported="skip", verify=True)
    assert [item.path for item in report.skipped] == ["/x"]
    assert report.verification.equal
    for target in ("a.zarr", "b.zarr"):
        assert [path for path in (tmp_path / target).rglob("*") if path.name.endswith("partial")] == []


def fail(_done: int, _total: int) -> None:
    """Fail once the first bytes are written."""
    raise RuntimeError
