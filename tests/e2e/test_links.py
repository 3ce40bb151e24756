"""Programs of other projects find what links lead to, or the report says that they do not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from h5bound import convert

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # from other libraries
FORMATS = pytest.mark.parametrize("zarr_format", [3, 2])


@FORMATS
def test_anndata_reads_copies_of_columns_and_layers(tmp_path: Path, zarr_format: Any) -> None:
    anndata, pd = pytest.importorskip("anndata"), pytest.importorskip("pandas")
    source, target = tmp_path / "a.h5ad", tmp_path / "a.zarr"
    obs = pd.DataFrame({"kind": pd.Categorical(["x", "y", "x"])}, index=list("abc"))
    anndata.AnnData(np.arange(6.0).reshape(3, 2), obs=obs).write_h5ad(source)
    with h5py.File(source, "a") as file:
        file["layers/counts"] = file["X"]
        file["obs/again"] = h5py.SoftLink("kind")
        file["uns/table"] = h5py.SoftLink("/obs")
        file["obs"].attrs["column-order"] = np.array(["kind", "again"], h5py.string_dtype())
    report = convert(source, target, links="copy", zarr_format=zarr_format, verify=True)
    assert (report.exit_code, report.forms["copy"]) == (0, 4)
    expected, found = anndata.read_h5ad(source), anndata.read_zarr(target)
    assert (expected.layers["counts"] == found.layers["counts"]).all()
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    pd.testing.assert_frame_equal(found.uns["table"], expected.uns["table"])
    report = convert(source, target, zarr_format=zarr_format, overwrite=True)
    assert report.forms["link"] == 3
    assert "3 links" in report.summary()


@FORMATS
def test_xarray_reads_copies_as_h5netcdf_reads_links(tmp_path: Path, zarr_format: Any) -> None:
    xr = pytest.importorskip("xarray")
    source, target = tmp_path / "a.nc", tmp_path / "a.zarr"
    xr.Dataset({"a": (("x", "y"), np.ones((3, 2)), {"units": "m"})}, {"x": [1, 2, 3]}).to_netcdf(
        source, engine="h5netcdf"
    )
    with h5py.File(source, "a") as file:
        file["b"] = file["a"]
        file["c"] = h5py.SoftLink("/g/d")
        file["g/d"] = h5py.SoftLink("/a")
        file["h"] = h5py.SoftLink("/g")
    report = convert(source, target, links="copy", zarr_format=zarr_format, verify=True)
    assert (report.exit_code, report.links) == (0, ())
    with (
        xr.open_datatree(source, engine="h5netcdf") as expected,
        xr.open_datatree(target, engine="zarr") as found,
    ):
        assert found.identical(expected)
        assert found["/h/d"].dims == ("x", "y")


def write_links(path: Path) -> None:
    """Write an NWB file with links of its own, one to another file and one to nothing."""
    pynwb = pytest.importorskip("pynwb")
    data = pynwb.NWBFile("made for a test", "id", datetime(2025, 1, 1, tzinfo=UTC))
    data.create_electrode_group("shank", description="one", location="brain", device=data.create_device("probe"))
    first = pynwb.TimeSeries(name="first", data=np.arange(9.0), unit="m", timestamps=np.arange(9) / 10)
    data.add_acquisition(first)
    data.add_acquisition(pynwb.TimeSeries(name="second", data=first, unit="m", timestamps=first))
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(data)
    with h5py.File(path, "a") as file:
        file["acquisition/far"] = h5py.ExternalLink("b.nwb", "/acquisition/first")
        file["acquisition/none"] = h5py.SoftLink("/acquisition/nothing")


@FORMATS
def test_hdmf_zarr_follows_links_and_is_not_stopped_by_those_that_lead_out(tmp_path: Path, zarr_format: Any) -> None:
    hdmf_zarr = pytest.importorskip("hdmf_zarr", minversion="0.14")
    source, target = tmp_path / "a.nwb", tmp_path / "a.nwb.zarr"
    write_links(source)
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert (report.exit_code, report.forms["link"], report.forms["external_link"]) == (0, 4, 1)
    if zarr_format == 3:
        with hdmf_zarr.NWBZarrIO(str(target), "r") as io:
            read = io.read()
            first, second = read.acquisition["first"], read.acquisition["second"]
            assert second.data is first.data
            assert second.timestamps[:].tolist() == (np.arange(9) / 10).tolist()
            assert read.electrode_groups["shank"].device is read.devices["probe"]
    report = convert(source, target, zarr_format=zarr_format, links="copy", overwrite=True)
    (warning,) = [note.note for note in report.notes if note.kind == "reader"]
    assert "copies in place of links" in warning
