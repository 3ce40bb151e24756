"""References in icechunk are read as what h5py reads, and no longer once the file is another one."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr

from h5bound import OptionError, TargetError, references
from tests.support.awkward_file import write_awkward
from tests.support.http_server import serve
from tests.support.servers import KEY, SECRET, serve_s3
from tests.support.stores import s3_options

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.arange(4000, dtype=">i4").reshape(40, 100)

icechunk: Any = pytest.importorskip("icechunk")
VERSION = tuple(map(int, icechunk.__version__.split(".")[:3]))

pytestmark = pytest.mark.filterwarnings("ignore:.*Numcodecs codecs are not in the Zarr version 3:UserWarning")


def make_repository(folder: Path | str) -> Any:
    """Return an icechunk repository in memory that may refer to files of a folder, or of a server."""
    config = icechunk.RepositoryConfig.default()
    if isinstance(folder, str):
        prefix, store, kind = folder, icechunk.http_store({"allow_http": "true"}), "HttpAccess"
    else:
        prefix, store = f"file://{folder}/", icechunk.local_filesystem_store(str(folder))
        kind = "LocalFileSystemAccess"
    access = getattr(icechunk.credentials, kind, None)  # older ones take None
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    return icechunk.Repository.create(
        icechunk.in_memory_storage(), config, authorize_virtual_chunk_access={prefix: access}
    )


def read(repository: Any) -> Any:
    """Return the store of a repository."""
    return zarr.open_group(repository.readonly_session("main").store, mode="r")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with data that is ranges, and data that is not."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("gzip", data=VALUES, chunks=(8, 50), compression="gzip", shuffle=True)
        file.create_dataset("lzf", data=VALUES, chunks=(8, 50), compression="lzf")
    os.utime(path, (1e9, 1e9))
    return path


def test_all_awkward_data_is_what_h5py_reads(tmp_path: Path) -> None:
    wanted = write_awkward(tmp_path / "a.h5")
    repository = make_repository(tmp_path)
    report = references(tmp_path / "a.h5", repository.writable_session("main").store, allow_external=[tmp_path])
    group = read(repository)
    for name, values in wanted.items():
        np.testing.assert_array_equal(group[name][...], values, err_msg=name)
    assert {name for name, _ in group.members()} == {*wanted, "null"}
    counts = {array.target: (array.ranges > 0, array.encoded > 0) for array in report.arrays}
    assert counts["gzip"] == counts["contiguous"] == (True, False)
    assert counts["one mask"] == (True, True)
    assert counts["lzf"] == counts["virtual"] == (False, True)


def test_they_are_one_commit(path: Path, tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    references(path, repository.writable_session("main").store)
    assert len(list(repository.ancestry(branch="main"))) == 2
    with pytest.raises(TargetError, match="holds a store"):
        references(path, repository.writable_session("main").store)
    with pytest.raises(OptionError, match="icechunk holds format 3"):
        references(path, repository.writable_session("main").store, zarr_format=2)
    other = make_repository(tmp_path / "elsewhere")
    with pytest.raises(OptionError, match="no virtual chunk container for file://"):
        references(path, other.writable_session("main").store)
    assert len(list(other.ancestry(branch="main"))) == 1


def test_a_file_that_was_written_to_later_is_not_read(path: Path, tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    references(path, repository.writable_session("main").store)
    np.testing.assert_array_equal(read(repository)["gzip"][...], VALUES)
    os.utime(path, (time.time(), time.time()))
    with pytest.raises(Exception, match=r"modified|changed"):
        read(repository)["gzip"][...]
    np.testing.assert_array_equal(read(repository)["lzf"][...], VALUES)


@pytest.mark.slow
def test_a_file_in_a_bucket_that_has_another_etag_is_not_read(path: Path) -> None:
    s3fs = pytest.importorskip("s3fs")
    with serve_s3() as address:
        options = s3_options(address)
        system = s3fs.S3FileSystem(**options, skip_instance_cache=True)
        system.mkdir("bucket")
        system.put(str(path), "bucket/a.h5")
        reach = {"region": "us-east-1", "endpoint_url": address, "allow_http": True, "force_path_style": True}
        config = icechunk.RepositoryConfig.default()
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer("s3://bucket/", icechunk.s3_store(**reach)))
        access = icechunk.containers_credentials(
            {"s3://bucket/": icechunk.s3_credentials(access_key_id=KEY, secret_access_key=SECRET)}
        )
        repository = icechunk.Repository.create(
            icechunk.in_memory_storage(), config, authorize_virtual_chunk_access=access
        )
        target = "s3://bucket/a.h5"
        references(target, repository.writable_session("main").store, storage_options=options)
        np.testing.assert_array_equal(read(repository)["gzip"][...], VALUES)
        with h5py.File(path, "a") as file:
            file["gzip"].attrs["changed"] = 1
        system.put(str(path), "bucket/a.h5")
        with pytest.raises(Exception, match="has changed"):
            read(repository)["gzip"][...]


def test_a_file_on_a_server_that_has_another_time_is_not_read(path: Path, tmp_path: Path) -> None:
    if VERSION < (2, 0, 0):
        pytest.skip("older ones find no container for a server with a port")
    with serve(tmp_path) as server:
        repository = make_repository(f"{server.url}/")
        references(f"{server.url}/a.h5", repository.writable_session("main").store)
        np.testing.assert_array_equal(read(repository)["gzip"][...], VALUES)
        os.utime(path, (1.1e9, 1.1e9))
        with pytest.raises(Exception, match="has changed"):
            read(repository)["gzip"][...]


def test_a_later_copy_of_the_file_is_read(path: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    repository = make_repository(tmp_path / "copy")
    references(path, repository.writable_session("main").store, base_url=f"file://{tmp_path}/copy")
    shutil.copy(path, tmp_path / "copy")
    np.testing.assert_array_equal(read(repository)["gzip"][...], VALUES)


def test_files_of_any_name_are_read(path: Path, tmp_path: Path) -> None:
    if VERSION < (1, 1, 15):
        pytest.skip("older ones do not find files with a space or such in their names")
    for name in ("a b#1?.h5", "50%25 ü.h5", "{a}\\b::c.h5"):
        shutil.copy2(path, tmp_path / name)
        repository = make_repository(tmp_path)
        references(tmp_path / name, repository.writable_session("main").store)
        np.testing.assert_array_equal(read(repository)["gzip"][...], VALUES, err_msg=name)
