"""Readers of references find the files by URLs that hold no secrets, and name no file outside of what is allowed."""

from __future__ import annotations

import io
import ntpath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from h5bound import OptionError, UnsafeSourceError, references
from h5bound.reader.source import H5Source
from h5bound.views.file_urls import FileUrls, spell_path
from tests.support.http_server import serve

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.arange(4000, dtype=">i4").reshape(40, 100)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with one chunked dataset."""
    path = tmp_path / "a b%20#.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VALUES, chunks=(20, 100))
    return path


def list_urls(refs: dict[str, Any]) -> set[str]:
    """Return the URLs of all ranges."""
    return {value[0] for value in refs["refs"].values() if isinstance(value, list)}


@pytest.mark.parametrize(
    ("base_url", "wanted"),
    [
        ("s3://bucket/x/", "s3://bucket/x/a b%20#.h5"),
        ("https://host/x", "https://host/x/a%20b%2520%23.h5"),
        ("/data", "/data/a b%20#.h5"),
    ],
)
def test_names_are_encoded_only_for_web_servers(path: Path, base_url: str, wanted: str) -> None:
    assert list_urls(references(path, base_url=base_url)) == {wanted}


def test_a_link_to_the_file_is_named_as_the_user_knows_it(path: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "scan.h5"
    link.symlink_to(path)
    assert list_urls(references(link, base_url="s3://bucket")) == {"s3://bucket/scan.h5"}
    assert list_urls(references(link)) == {f"file://{path}"}


def test_a_url_with_secrets_is_refused_and_base_url_names_the_file_without(path: Path, tmp_path: Path) -> None:
    path.rename(tmp_path / "a.h5")
    with serve(tmp_path) as server:
        signed = f"{server.url}/a.h5?signature=abcdef"
        with pytest.raises(OptionError, match="pass base_url") as error:
            references(signed)
        assert "abcdef" not in str(error.value)
        assert list_urls(references(signed, base_url="https://host/x")) == {"https://host/x/a.h5"}
        cached = references(f"simplecache::{server.url}/a.h5")
        assert list_urls(cached) == {f"{server.url}/a.h5"}


def test_of_a_file_on_a_server_no_chunk_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("chunks", data=np.random.default_rng(0).random((64, 2**15)), chunks=(1, 2**15))
        file.create_dataset("contiguous", data=np.zeros((16, 2**15)))
        file.create_dataset("zipped", data=np.zeros((64, 2**15)), chunks=(1, 2**15), compression="gzip")
    with serve(tmp_path) as server:
        refs = references(f"{server.url}/a.h5")
        assert list_urls(refs) == {f"{server.url}/a.h5"}
        assert len(refs["refs"]) > 64 + 64
        assert server.nbytes() < 2**20 < 2**24 < (tmp_path / "a.h5").stat().st_size


@pytest.mark.parametrize("how", ["archive", "object", "memory"])
def test_a_file_that_others_cannot_read_has_no_url(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "memory":
        with h5py.File("only.h5", "w", driver="core", backing_store=False) as file:
            file["x"] = VALUES
            refs = references(file)
    elif how == "object":
        refs = references(io.BytesIO(content))
    else:
        from zipfile import ZipFile

        with ZipFile(path.with_suffix(".zip"), "w") as archive:
            archive.writestr("a.h5", content)
        refs = references(f"zip://a.h5::file://{path.with_suffix('.zip')}")
    assert not list_urls(refs)
    assert any(str(value).startswith("base64:") for value in refs["refs"].values())


def test_no_file_outside_of_what_is_allowed_is_named(tmp_path: Path) -> None:
    for name in ("x/in/b.h5", "out/c.h5"):
        (tmp_path / name).parent.mkdir(parents=True)
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("x", data=VALUES, chunks=(20, 100))
    path = tmp_path / "x" / "a.h5"
    with h5py.File(path, "w") as file:
        file["in"] = h5py.ExternalLink("in/b.h5", "x")
        file["out"] = h5py.ExternalLink("../out/c.h5", "x")
        file["passwd"] = h5py.ExternalLink("/etc/passwd", "x")
        file["own"] = VALUES
    (tmp_path / "x" / "in" / "c.h5").symlink_to(tmp_path / "out" / "c.h5")
    with h5py.File(path, "a") as file:
        file["linked"] = h5py.ExternalLink("in/c.h5", "x")
    assert list_urls(references(path)) == {f"file://{path}"}
    allowed = references(path, allow_external=[tmp_path / "x" / "in"])
    assert list_urls(allowed) == {f"file://{path}", f"file://{tmp_path}/x/in/b.h5"}
    with h5py.File(path, "a") as file:
        file.create_dataset("raw", (3,), "i4", external=[("../out/c.h5", 0, 12)])
    with pytest.raises(UnsafeSourceError):
        references(path)
    skipped = references(path, on_unsupported="skip")
    assert list_urls(skipped) == {f"file://{path}"}
    assert "raw/.zarray" not in skipped["refs"]


def test_a_base_url_that_is_none_is_refused(path: Path) -> None:
    for base_url in ("", 3):
        with pytest.raises(OptionError, match="base_url"):
            FileUrls.of(H5Source.of(path), path, base_url)  # type: ignore[arg-type]


def test_paths_of_windows_are_named_by_their_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = SimpleNamespace(path=ntpath, sep="\\")
    monkeypatch.setattr("h5bound.views.file_urls.os", windows)
    assert spell_path(r"C:\data\2025\a.h5") == "C:/data/2025/a.h5"
