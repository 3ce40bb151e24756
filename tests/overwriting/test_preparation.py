"""Which reads and writes of a compute are found, and in which order they are right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import h5netcdf
import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from dask.local import convert_legacy_graph
from dask.task_spec import Task, TaskRef

from h5bound.errors import SourceChangedError
from h5bound.files.unlocked import is_read_unlocked
from h5bound.overwriting.preparation import prepare_writes
from h5bound.overwriting.targets import VariablePath, find_target

if TYPE_CHECKING:
    from pathlib import Path

    from dask.typing import Key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.nc"
    values = np.zeros((4, 3))
    for group in (None, "g/h"):
        xr.Dataset({"a": (("t", "x"), values)}).to_netcdf(path, mode="a", group=group, engine="netcdf4")
    return path


def find(leaf: object) -> tuple[str, str, bool]:
    """Return the file, the path, and whether netCDF4 writes it."""
    target = find_target(leaf)
    assert target is not None
    return target.variable.file, target.variable.path, target.netcdf4 is not None


def test_what_is_written_to_is_found_whoever_writes(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.nc"
    link.symlink_to(path)
    with h5py.File(link, "a") as file:
        assert find(file["g/h/a"]) == (str(path), "/g/h/a", False)
        closed = file["a"]
    with h5netcdf.File(link, "a") as opened:
        assert find(opened["g/h"]["a"]) == (str(path), "/g/h/a", False)
    with netCDF4.Dataset(link, "a") as dataset:
        assert find(dataset["g/h"]["a"]) == (str(path), "/g/h/a", True)
        assert find(dataset["a"]) == (str(path), "/a", True)
    for leaf in (closed, np.zeros(3), "a", None):
        assert find_target(leaf) is None


@pytest.mark.parametrize("group", [None, "g/h"])
@pytest.mark.parametrize(("store", "is_netcdf4"), [("NetCDF4DataStore", True), ("H5NetCDFStore", False)])
def test_the_private_names_of_xarray_say_what_its_stores_write_to(
    path: Path, group: str | None, store: str, *, is_netcdf4: bool
) -> None:
    from xarray import backends

    for mode in ("a", "w"):
        opened = getattr(backends, store).open(str(path), mode=mode, group=group)
        variable = xr.Variable("x", np.zeros(3))
        opened.set_dimensions({"x": variable})
        leaf, _ = opened.prepare_variable("c", variable)
        target = find_target(leaf)
        assert target is not None
        assert target.variable == VariablePath(str(path), f"/{group or ''}/c".replace("//", "/"))
        assert (target.netcdf4 is not None, target.is_anew) == (is_netcdf4, mode == "w")
        if target.netcdf4 is not None:
            target.sync()
        opened.close()


def test_what_is_synced_is_in_the_file(path: Path) -> None:
    with netCDF4.Dataset(path, "a") as dataset:
        target = find_target(dataset.createVariable("c", "f8", ("t", "x")))
        assert target is not None
        target.sync()
        with h5py.File(path, locking=False) as file:
            assert file["c"].shape == (4, 3)


def store_blocks(target: Any) -> dict[Key, Any]:
    """Return the tasks that store blocks of two rows."""
    array = da.from_array(np.zeros((4, 3)), chunks=(2, 3))
    stored = da.store(array, target, compute=False, lock=False)
    return dict(convert_legacy_graph(stored.__dask_graph__()))


def test_nothing_is_prepared_where_nothing_is_stored_or_other_files_are_read(path: Path, tmp_path: Path) -> None:
    def fail() -> dict[VariablePath, set[Key]]:
        raise AssertionError("the readers are not needed")

    prepare_writes({"a": Task("a", abs, 1)}, fail).close()
    with h5py.File(path, "a") as file:
        graph = store_blocks(file["a"])
        prepare_writes(graph, dict).close()
        prepare_writes(graph, lambda: {VariablePath(str(tmp_path / "other.nc"), "/a"): {"anything"}}).close()


def test_a_file_is_read_beside_netcdf4_until_the_compute_has_ended(path: Path) -> None:
    read = VariablePath(str(path), "/other")
    with netCDF4.Dataset(path, "a") as dataset:
        graph = store_blocks(dataset["a"])
        with prepare_writes(graph, lambda: {read: set()}), prepare_writes(graph, lambda: {read: set()}):
            assert is_read_unlocked(str(path))
        assert not is_read_unlocked(str(path))
        late = {**graph, "late": Task("late", abs, 1)}
        loaded: list[VariablePath] = []

        def load(variable: VariablePath) -> bool:
            loaded.append(variable)
            return True

        own = VariablePath(str(path), "/a")
        prepare_writes(late, lambda: {own: {"late"}}, load).close()
        assert loaded == [own]
        with pytest.raises(SourceChangedError, match=r"'/a' of .*: it would be overwritten"):
            prepare_writes(late, lambda: {own: {"late"}})
        assert not is_read_unlocked(str(path))


def test_a_read_that_every_write_depends_on_is_right_with_netcdf4(path: Path) -> None:
    own = VariablePath(str(path), "/a")
    with netCDF4.Dataset(path, "a") as dataset:
        graph: dict[Key, Any] = {"read": Task("read", abs, 1)}
        blocks = [np.zeros((2, 3))] * 2

        def after(_: object, index: int) -> Any:
            return blocks[index]

        graph |= {("block", i, 0): Task(("block", i, 0), after, TaskRef("read"), i) for i in range(2)}
        array = da.Array(graph, "block", ((2, 2), (3,)), dtype=float)
        stored = convert_legacy_graph(da.store(array, dataset["a"], compute=False, lock=False).__dask_graph__())
        prepare_writes(stored, lambda: {own: {"read"}}).close()
        with pytest.raises(SourceChangedError, match="it would be overwritten"):
            prepare_writes(stored, lambda: {own: {("block", 0, 0)}})
