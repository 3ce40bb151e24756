"""The engine opens no other file, and needs none that only other groups of the file need."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from h5bound.errors import UnsafeSourceError
from tests.support.odd_files import record_opens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which files are opened")


def write_file(folder: Path) -> Path:
    """Write a file whose group ``g`` needs no other file; those that `links` and `virtual` need are in ``secret``."""
    (folder / "secret").mkdir()
    with h5py.File(folder / "secret" / "d.h5", "w") as file:
        file.create_dataset("d", data=np.arange(4), maxshape=(None,))
    with h5py.File(folder / "a.h5", "w") as file:
        file["g/x"], file["g/below/y"] = [1, 2], [3]
        file["links/e"] = h5py.ExternalLink("secret/d.h5", "/")
        map_growing(file.create_group("virtual"), "v")
    return folder / "a.h5"


def map_growing(group: h5py.Group, name: str) -> None:
    """Write a virtual dataset whose source HDF5 opens to find its shape."""
    layout = h5py.VirtualLayout((4,), "i8", maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = h5py.VirtualSource("secret/d.h5", "d", (4,), maxshape=(None,))[: h5py.h5s.UNLIMITED]
    group.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("missing", [False, True])
def test_what_other_groups_need_does_not_matter(tmp_path: Path, *, missing: bool) -> None:
    path = write_file(tmp_path)
    options: dict[str, Any] = {"group": "g", "phony_dims": "access"}
    if missing:
        (tmp_path / "secret" / "d.h5").unlink()
    with record_opens(tmp_path / "secret") as opened:
        found = xr.open_dataset(path, engine="h5bound", **options)
        chunked = xr.open_dataset(path, engine="h5bound", chunks={}, **options)
        groups = xr.open_groups(path, engine="h5bound", **options)
        tree = xr.open_datatree(path, engine="h5bound", **options).load()
        assert found.x.values.tolist() == chunked.x.compute().values.tolist() == [1, 2]
        assert sorted(groups) == [".", "below"]
    assert not opened
    with xr.open_datatree(path, engine="h5netcdf", **options) as expected:
        xr.testing.assert_identical(tree, expected)


def reach_by_soft_link(file: h5py.File) -> None:
    file["g/soft"] = h5py.SoftLink("/links/e/d")


def reach_by_soft_links(file: h5py.File) -> None:
    file["via"] = h5py.SoftLink("links")
    file["g/soft"] = h5py.SoftLink("/via/e")


def link_from_the_root(file: h5py.File) -> None:
    file["e"] = h5py.ExternalLink("secret/d.h5", "/d")


def refer_to_a_growing_dataset(file: h5py.File) -> None:
    scale = file["g"].create_dataset("scale", (2,), "f4", maxshape=(None,), chunks=(2,))
    scale.make_scale()
    entry = np.dtype([("dataset", h5py.ref_dtype), ("dimension", "i4")])
    scale.attrs.create("REFERENCE_LIST", np.array([(file["virtual/v"].ref, 0)], entry))


def refer_by_text(file: h5py.File) -> None:
    scale = file["g"].create_dataset("scale", (2,), "f4", maxshape=(None,), chunks=(2,))
    scale.make_scale()
    scale.attrs.create("REFERENCE_LIST", np.array([(b"links/e/d", 0)], [("dataset", "S9"), ("dimension", "i4")]))


def name_dimensions_by_text(file: h5py.File) -> None:
    names = np.empty(1, object)
    names[0] = np.array([b"links/e/d"], "S9")
    file["g/x"].attrs.create("DIMENSION_LIST", names, dtype=h5py.vlen_dtype("S9"))


ESCAPES: list[tuple[Callable[[h5py.File], None], str]] = [
    (reach_by_soft_link, "g"),
    (reach_by_soft_links, "g"),
    (link_from_the_root, "g"),
    (lambda file: map_growing(file, "v"), "g"),
    (refer_to_a_growing_dataset, "g"),
    (refer_by_text, "g"),
    (name_dimensions_by_text, "g"),
    (lambda file: None, "links"),
    (lambda file: None, "links/e"),
    (lambda file: None, "virtual"),
]


@pytest.mark.parametrize(("write", "group"), ESCAPES)
def test_what_the_group_leads_to_is_refused_and_never_opened(
    tmp_path: Path, write: Callable[[h5py.File], None], group: str
) -> None:
    path = write_file(tmp_path)
    with h5py.File(path, "r+") as file:
        write(file)
    for open_it in (xr.open_dataset, xr.open_groups, xr.open_datatree):
        with record_opens(tmp_path / "secret") as opened, pytest.raises(UnsafeSourceError, match=r"a\.h5"):
            open_it(path, engine="h5bound", group=group, phony_dims="access")
        assert not opened
    with record_opens(tmp_path / "secret") as opened, suppress(Exception):
        xr.open_dataset(path, engine="h5netcdf", group=group, phony_dims="access").close()
    assert opened, "h5netcdf opens it, or the test shows nothing"
