"""A folder is asked what names it holds, and nothing is left in it."""

from __future__ import annotations

import errno
import os
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from zarr.storage import FsspecStore

from h5bound.stores.name_limits import FORBIDDEN, TWINS, ask_folder, find_limits
from h5bound.stores.resolve import open_target
from h5bound.zarr_model.node_names import PORTABLE, NameLimits

if TYPE_CHECKING:
    from collections.abc import Callable


def fold(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def strip(name: str) -> str:
    if set(name) & set('<>:"|?*\n'):
        raise OSError(errno.EINVAL, "not a name", name)
    return name.rstrip(". ")


def decompose(name: str) -> str:
    return unicodedata.normalize("NFD", name)


FOLDERS = [
    pytest.param(str, {}, id="all names"),
    pytest.param(fold, {"folds": True}, id="folds case"),
    pytest.param(strip, {"windows": True}, id="as on Windows"),
    pytest.param(decompose, {"folds": True}, id="normalizes"),
    pytest.param(lambda name: fold(strip(name)), {"folds": True, "windows": True}, id="both"),
]


@pytest.mark.skipif(os.name == "nt" or Path("/TMP").exists(), reason="the folder of the test must hold all names")
@pytest.mark.parametrize(("alter", "expected"), FOLDERS)
def test_a_folder_is_asked_by_making_names_in_it(
    alter: Callable[[str], str], expected: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir
    tried = {*FORBIDDEN, *(name for pair in TWINS for name in pair)}

    def make_altered(path: Path) -> None:
        make(path.with_name(alter(path.name)) if path.name in tried else path)

    with monkeypatch.context() as patch:  # no such file system can be mounted in every place where tests run
        patch.setattr(Path, "mkdir", make_altered)
        found = ask_folder(tmp_path / "not" / "there")
    assert found == NameLimits(**expected, longest=os.pathconf(tmp_path, "PC_NAME_MAX"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything can be written to")
def test_a_folder_that_cannot_be_written_to_is_not_asked(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert not ask_folder(tmp_path).portable
    assert list(tmp_path.iterdir()) == []


def test_file_systems_that_cannot_be_asked_get_portable_names(tmp_path: Path) -> None:
    inside = AsyncFileSystemWrapper(DirFileSystem(str(tmp_path), LocalFileSystem()), asynchronous=True)
    assert find_limits(FsspecStore(inside, path="/a")) == PORTABLE
    assert find_limits(FsspecStore.from_url("memory://a")) == NameLimits()


def test_a_zip_file_holds_all(tmp_path: Path) -> None:
    assert open_target(tmp_path / "a.zip", 3).find_limits() == NameLimits()
