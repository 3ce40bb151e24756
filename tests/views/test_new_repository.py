"""A repository that `references` makes is read as what h5py reads, and replaced only if it has nothing else."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray
import zarr

from h5bound import OptionError, TargetError, references
from h5bound.cli.main import run_command
from h5bound.hdf5.chunk_index import ChunkManifest
from h5bound.views import new_repository

if TYPE_CHECKING:
    from pathlib import Path

icechunk: Any = pytest.importorskip("icechunk")

VALUES = np.arange(4000, dtype=">i4").reshape(40, 100)

pytestmark = pytest.mark.filterwarnings("ignore:.*Numcodecs codecs are not in the Zarr version 3:UserWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with data that is ranges, and data that is not, in a folder with a space in its name if it may."""
    newer = tuple(map(int, icechunk.__version__.split(".")[:3])) >= (1, 1, 15)
    path = tmp_path / "data" / ("my scans" if newer else "scans") / "a.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("gzip", data=VALUES, chunks=(8, 50), compression="gzip")
        file.create_dataset("lzf", data=VALUES, chunks=(8, 50), compression="lzf")
    return path


def open_repository(target: Path, folder: Path | str) -> Any:
    """Return the repository in a folder, whose references to files of another one may be followed."""
    access = getattr(icechunk.credentials, "LocalFileSystemAccess", None)  # older ones take None
    return icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(target)), authorize_virtual_chunk_access={f"file://{folder}/": access}
    )


def test_the_command_makes_one_that_xarray_reads(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a.icechunk"
    assert run_command(["refs", str(path), str(target)]) == 0
    assert "10 chunks as ranges of the file; 10 chunks encoded anew" in capsys.readouterr().out
    folder = path.parent if path.parent.name == "scans" else path.parent.parent
    repository = open_repository(target, folder)
    dataset = xarray.open_zarr(repository.readonly_session("main").store, consolidated=False)
    np.testing.assert_array_equal(dataset["gzip"].values, VALUES)
    np.testing.assert_array_equal(dataset["lzf"].values, VALUES)
    assert next(iter(repository.ancestry(branch="main"))).message == f"h5bound references: {path}"
    assert run_command(["refs", str(path), str(target)]) == 1
    assert "it exists; pass --overwrite" in capsys.readouterr().err


def test_it_is_replaced_only_if_it_has_nothing_else(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.icechunk"
    references(path, target)
    references(path, target, overwrite=True, exclude=["lzf"])
    repository = open_repository(target, path.parent)
    session = repository.writable_session("main")
    assert list(zarr.open_group(session.store, mode="r").array_keys()) == ["gzip"]
    zarr.open_group(session.store, mode="a").create_group("mine")
    session.commit("a group of my own")
    with pytest.raises(TargetError, match="are no references, and are not replaced"):
        references(path, target, overwrite=True)
    other = tmp_path / "b.icechunk"
    other.mkdir()
    with pytest.raises(TargetError, match="are no references"):
        references(path, other, overwrite=True)


def test_a_failure_leaves_nothing(path: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot refer to files there; pass base_url of another place"):
        references(path, tmp_path / "a.icechunk", base_url="ftp://host/data")
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_base_url_is_what_the_repository_may_refer_to(path: Path, tmp_path: Path) -> None:
    references(path, tmp_path / "a.icechunk", base_url="s3://bucket/data")
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(tmp_path / "a.icechunk")))
    assert list(repository.config.virtual_chunk_containers) == ["s3://bucket/data/"]
    found = repository.readonly_session("main").all_virtual_chunk_locations()
    assert set(found) == {"s3://bucket/data/a.h5"}


def test_many_chunks_are_in_several_manifests(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_repository, "MOST_CHUNKS", 4)
    references(path, tmp_path / "a.icechunk", include=["gzip"])
    assert len(list((tmp_path / "a.icechunk" / "manifests").iterdir())) == 3  # of 2 x 2 chunks, the last of 1 x 2


def list_manifests() -> list[ChunkManifest]:
    """Return the manifests that are in memory."""
    return [item for item in gc.get_objects() if isinstance(item, ChunkManifest)]


def test_positions_of_chunks_are_not_held_while_it_is_committed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def list_held(*arguments: Any, **options: Any) -> Any:
        gc.collect()
        held.extend(len(item.offsets) for item in list_manifests() if id(item) not in known)
        return commit(*arguments, **options)

    before = list_manifests()  # what other tests have left in memory; kept, so that no identity is used again
    known = {id(item) for item in before}
    commit = icechunk.Session.commit
    monkeypatch.setattr(icechunk.Session, "commit", list_held)
    report = references(path, path.with_suffix(".icechunk"))
    assert not held
    assert [(array.path, array.ranges, bool(array.reasons)) for array in report.arrays] == [
        ("/gzip", 10, False),
        ("/lzf", 0, True),
    ]


def test_without_icechunk_it_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(new_repository, "find_spec", lambda name: None)
    assert run_command(["refs", str(path), str(tmp_path / "a.icechunk")]) == 2
    assert "pip install icechunk" in capsys.readouterr().err
