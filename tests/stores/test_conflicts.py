"""Files that are read, or that other programs wrote, are not overwritten."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import fsspec
import h5py
import numpy as np
import pytest
import zarr
from zarr.storage import FsspecStore, LocalStore, ObjectStore, WrapperStore, ZipStore

from h5bound import convert, verify
from h5bound.cli.main import run_command
from h5bound.errors import OptionError, TargetError
from h5bound.planning.scan import scan_source
from h5bound.stores.conflicts import find_inside
from tests.support.servers import serve_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from zarr.abc.store import Store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(10)
    return path


def copy_into(source: Path, folder: Path) -> Path:
    """Make a store, and copy the source into it."""
    convert(source, folder)
    copy = folder / "copy.h5"
    copy.write_bytes(source.read_bytes())
    return copy


class OwnStore(LocalStore):
    """A store class of the user's own."""


def in_wrapper(folder: Path) -> Store:
    return WrapperStore(LocalStore(folder))


def in_own_class(folder: Path) -> Store:
    return OwnStore(folder)


def in_obstore(folder: Path) -> Store:
    stores = pytest.importorskip("obstore.store")
    return ObjectStore(stores.LocalStore(str(folder)))


@pytest.mark.parametrize("make", [in_wrapper, in_own_class, in_obstore, str])
def test_a_source_inside_its_target_is_not_deleted(make: Callable[[Path], Any], source: Path, tmp_path: Path) -> None:
    copy = copy_into(source, tmp_path / "a.zarr")
    with pytest.raises(TargetError, match="lies inside the target, where everything outside the store is deleted"):
        convert(copy, make(tmp_path / "a.zarr"), overwrite=True)
    assert copy.read_bytes() == source.read_bytes()


def test_a_source_at_a_url_inside_its_target_is_not_deleted(source: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/conflict/t/copy.h5", source.read_bytes())
    memory.pipe("/conflict/t2/copy.h5", source.read_bytes())
    with pytest.raises(TargetError, match=r"the source .* lies inside the target"):
        convert("memory://conflict/t/copy.h5", "memory://conflict/t", overwrite=True)
    assert memory.cat("/conflict/t/copy.h5") == source.read_bytes()
    with pytest.raises(TargetError, match="not a Zarr store"):  # the name of one begins with the other's
        convert("memory://conflict/t2/copy.h5", "memory://conflict/t", overwrite=True)


@pytest.mark.parametrize("link", ["link", "external", "virtual"])
def test_external_files_are_not_deleted(link: str, source: Path, tmp_path: Path) -> None:
    external = copy_into(source, tmp_path / "a.zarr")
    main = tmp_path / "main.h5"
    with h5py.File(main, "w") as file:
        if link == "link":
            file["y"] = h5py.ExternalLink(str(external), "/x")
        elif link == "external":
            file.create_dataset("y", (10,), "u1", external=[(str(external), 0, 10)])
        else:
            layout = h5py.VirtualLayout((10,), "i8")
            layout[:] = h5py.VirtualSource(str(external), "x", (10,))
            file.create_virtual_dataset("y", layout)
    for target, report in ((tmp_path / "a.zarr", None), (tmp_path / "b.zarr", external)):
        with pytest.raises(
            (OptionError, TargetError), match=r"lies inside the target|would overwrite a file that is read"
        ):
            convert(main, target, overwrite=True, allow_external=[tmp_path], report=report)
        assert external.read_bytes() == source.read_bytes()
    assert not (tmp_path / "b.zarr").exists()


def test_a_report_overwrites_nothing_that_is_read_or_written(source: Path, tmp_path: Path) -> None:
    data, target = source.read_bytes(), tmp_path / "a.zarr"
    os.link(source, tmp_path / "hard.json")
    (tmp_path / "soft.json").symlink_to(source)
    with h5py.File(source) as file:
        cases: list[tuple[Any, Path, Path]] = [
            (source, target, tmp_path / "hard.json"),
            (source, target, tmp_path / "soft.json"),
            (f"file://{source}", target, source),
            (file, target, source),
            (source, target, target),
            (source, target, target / "zarr.json"),
            (source, tmp_path / "a.zip", tmp_path / "a.zip"),
        ]
        for given, place, report in cases:
            with pytest.raises(OptionError, match="the report would"):
                convert(given, place, report=report)
            assert not place.exists()
    convert(source, target)
    before = (target / "zarr.json").read_bytes()
    for report in (target / "zarr.json", source):
        with pytest.raises(OptionError, match="the report would"):
            verify(source, target, report=report)
        assert run_command(["verify", str(source), str(target), "--report", str(report)]) == 2
    assert (source.read_bytes(), (target / "zarr.json").read_bytes()) == (data, before)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")  # noqa: PTH110
def test_the_error_for_a_report_says_that_all_else_was_done(source: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TargetError, match=r"/dev/full: the report cannot be written: No space left on device; 1 dataset .*; complete"
    ):
        convert(source, tmp_path / "a.zarr", report="/dev/full")
    assert verify(source, tmp_path / "a.zarr").equal


@pytest.mark.parametrize("first", ["store", "file"])
def test_a_zip_file_that_another_program_writes_meanwhile_is_not_overwritten(
    first: str, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "a.zip"

    def read_later(*args: Any, **options: Any) -> Any:
        found = scan_source(*args, **options)
        target.write_bytes(other.read_bytes() if first == "store" else b"mine")
        return found

    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = np.ones(10)
    other = tmp_path / "b.zip"
    convert(tmp_path / "b.h5", other)
    with (
        patch("h5bound._convert.scan_source", read_later),
        pytest.raises(TargetError, match="during the conversion; overwrite"),
    ):
        convert(source, target)
    if first == "store":
        with ZipStore(target, mode="r") as store:
            assert zarr.open_array(store, path="x", mode="r")[0] == 1
    else:
        assert target.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.zip", "b.h5", "b.zip"]


@pytest.mark.parametrize("make", [in_wrapper, in_own_class])
def test_a_store_with_another_file_in_its_folder_can_be_replaced(
    make: Callable[[Path], Any], source: Path, tmp_path: Path
) -> None:
    convert(source, tmp_path / "a.zarr")
    (tmp_path / "a.zarr/README.md").write_text("no key of the store")
    assert convert(source, make(tmp_path / "a.zarr"), overwrite=True).complete
    assert verify(source, tmp_path / "a.zarr").equal


def test_a_store_object_at_a_signed_url_does_not_show_its_signature(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with serve_folder(tmp_path) as url:
        store = FsspecStore.from_url(f"{url}/none.zarr?sig=hush", read_only=True)
        with pytest.raises(TargetError) as caught:
            verify(source, store)
        assert "hush" not in str(caught.value)
    with pytest.raises(TargetError) as caught:
        verify(source, store)  # nobody answers
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("target", ["", "file:/x", "a\0b"])
def test_a_text_that_names_no_target_is_refused(target: str, source: Path) -> None:
    with pytest.raises(OptionError, match="name a directory"):
        convert(source, target)


def test_only_what_is_below_a_folder_is_inside(tmp_path: Path) -> None:
    real = Path(os.path.realpath(tmp_path))
    (tmp_path / "link").symlink_to(real / "in")
    beside, below = str(real / "in.h5"), str(real / "in" / "a.h5")
    for folder in (tmp_path / "in", tmp_path / "link"):
        assert find_inside(folder, [beside, "s3://in/a.h5", below]) == below
    assert find_inside(real / "in" / "a.h5", [below]) == below
    assert find_inside(Path(real.anchor), [beside]) == beside
    assert find_inside(tmp_path / "i", [beside, below]) is None
