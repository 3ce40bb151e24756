"""Programs of other projects read the store as they read the HDF5 file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pytest

from h5bound import ZarrStore, convert

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # from other libraries
FORMATS = pytest.mark.parametrize("zarr_format", [3, 2])


def make_annotated() -> Any:
    """Return annotated data with one element of each kind."""
    anndata = pytest.importorskip("anndata")
    pd, sp = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    rows, columns = 60, 20
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical(rng.choice(["a", "b", "ü"], rows)),
            "level": pd.Categorical(rng.choice(["lo", "hi"], rows), categories=["lo", "hi"], ordered=True),
            "text": [f"s{i}" for i in range(rows)],
            "count": pd.array([1, None] * (rows // 2), dtype="Int32"),
            "flag": pd.array([True, None] * (rows // 2), dtype="boolean"),
            "number": rng.random(rows),
        },
        index=[f"cell{i}" for i in range(rows)],
    )
    return anndata.AnnData(
        sp.random(rows, columns, 0.2, format="csr", random_state=1),
        obs=obs,
        var=pd.DataFrame(index=[f"gene{i}" for i in range(columns)]),
        obsm={"X_pca": rng.random((rows, 5)), "frame": pd.DataFrame({"x": rng.random(rows)}, index=obs.index)},
        layers={"sparse": sp.random(rows, columns, 0.3, format="csc", random_state=2), "dense": rng.random((rows, 20))},
        uns={
            "number": 1,
            "text": "naïve",
            "list": [1, 2, 3],
            "nested": {"names": np.array(["p", "q"], dtype=object), "single": np.float32(2)},
            "table": np.array([(1, 2.5)], dtype=[("i", "i4"), ("f", "f8")]),
        },
    )


def assert_same(one: Any, other: Any) -> None:
    """Compare two elements of annotated data: their classes, types and values."""
    if isinstance(other, Mapping):
        assert list(one) == list(other)
        for name in other:
            assert_same(one[name], other[name])
        return
    assert type(one) is type(other)
    if hasattr(other, "equals"):
        assert one.equals(other)
        assert one.dtypes.equals(other.dtypes)
    elif hasattr(other, "nnz"):
        assert one.dtype == other.dtype
        assert (one != other).nnz == 0
    else:
        kinds = [np.asarray(item).dtype for item in (one, other)]
        assert kinds[0] == kinds[1] or {kind.kind for kind in kinds} == {"O", "T"}  # text in Zarr, as anndata has it
        assert np.asarray(one).tolist() == np.asarray(other).tolist()


@FORMATS
@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_anndata_reads_the_store_as_it_reads_the_file(
    compression: Any, zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    anndata = pytest.importorskip("anndata")
    source, target = tmp_path / "a.h5ad", tmp_path / "a.zarr"
    data = make_annotated()
    data.write_h5ad(source, compression=compression)
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert report.exit_code == 0
    expected = anndata.read_h5ad(source)
    for store in (target, ZarrStore(source, zarr_format=zarr_format)):
        found = anndata.read_zarr(store)
        for name in ("X", "obs", "var", "obsm", "layers", "uns"):
            assert_same(getattr(found, name), getattr(expected, name))
        assert_same(found.obs, data.obs)


@FORMATS
def test_mudata_reads_the_store_as_it_reads_the_file(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    mudata = pytest.importorskip("mudata")
    source, target = tmp_path / "a.h5mu", tmp_path / "a.zarr"
    data = mudata.MuData({"rna": make_annotated(), "prot: %": make_annotated()[:, :4].copy()})
    data.obs["Quality"], data.obs["quality"] = 1.5, np.nan
    data.write_h5mu(source)
    assert convert(source, target, zarr_format=zarr_format, verify=True).exit_code == 0
    found, expected = mudata.read_zarr(target), mudata.read_h5mu(source)
    assert list(found.mod) == ["rna", "prot: %"]
    for one, other in ((found, expected), *((found.mod[name], expected.mod[name]) for name in expected.mod)):
        for part in ("obs", "var", "obsm", "uns"):
            assert_same(getattr(one, part), getattr(other, part))
    for name in expected.mod:
        assert_same(found.mod[name].X, expected.mod[name].X)
        assert_same(found.mod[name].layers, expected.mod[name].layers)


@FORMATS
def test_hyperspy_reads_the_store_as_it_reads_the_file(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    hyperspy = pytest.importorskip("hyperspy.api")
    signal = hyperspy.signals.Signal1D(np.arange(60, dtype="f4").reshape(3, 4, 5))
    signal.metadata.General.title = "a: b"
    signal.axes_manager[0].scale, signal.axes_manager[2].units = 0.5, "eV"
    tree = {"list": [1, 2, 3], "pair": (1.5, "ü"), "nothing": None, "nan": np.nan, "Array": np.arange(3), "array": True}
    signal.original_metadata.add_dictionary(tree)
    signal.save(tmp_path / "a.hspy")
    assert convert(tmp_path / "a.hspy", tmp_path / "a.zspy", zarr_format=zarr_format, verify=True).exit_code == 0
    found, expected = (hyperspy.load(tmp_path / name) for name in ("a.zspy", "a.hspy"))
    assert found.data.dtype == expected.data.dtype
    assert found.data.tolist() == expected.data.tolist()
    assert found.axes_manager.as_dictionary() == expected.axes_manager.as_dictionary()
    assert found.metadata.General.title == expected.metadata.General.title == "a: b"
    found, expected = (one.original_metadata.as_dictionary() for one in (found, expected))
    assert found.keys() == expected.keys() == tree.keys()
    for name in tree:
        np.testing.assert_equal(found[name], expected[name])


@FORMATS
def test_anndata_reads_categories_as_versions_before_0_8_stored_them(
    zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    anndata = pytest.importorskip("anndata")
    source, target = tmp_path / "a.h5ad", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        file["X"] = np.ones((3, 1), "f4")
        for name, index in (("obs", ["a", "b", "c"]), ("var", ["g"])):
            frame = file.create_group(name)
            frame["_index"] = index
            frame.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0", "_index": "_index"})
            frame.attrs["column-order"] = np.array(["kind"] if name == "obs" else [], h5py.string_dtype())
        file["obs/kind"] = np.array([0, 1, 0], "i1")
        file["obs/__categories/kind"] = ["x", "y"]
        file["obs/__categories/kind"].attrs["ordered"] = False
        file["obs/kind"].attrs["categories"] = file["obs/__categories/kind"].ref
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert report.exit_code == 0
    assert report.verification is not None
    assert report.verification.equal
    assert anndata.read_h5ad(source).obs["kind"].tolist() == ["x", "y", "x"]
    assert anndata.read_zarr(target).obs["kind"].tolist() == ["x", "y", "x"]


ODD_COLUMNS = ["Sex", "sex", "%mito", "x:y", "T cell?", "<5", "con", "a."]


@FORMATS
def test_anndata_and_xarray_find_odd_names_by_these_names(tmp_path: Path, zarr_format: Literal[2, 3]) -> None:
    anndata, pd, xr = map(pytest.importorskip, ("anndata", "pandas", "xarray"))
    source, table = tmp_path / "a.nc", tmp_path / "a.h5ad"
    one = anndata.AnnData(obs=pd.DataFrame({name: np.arange(3) + i for i, name in enumerate(ODD_COLUMNS)}, list("abc")))
    one.write_h5ad(table)
    assert convert(table, tmp_path / "table.zarr", zarr_format=zarr_format, verify=True).exit_code == 0
    pd.testing.assert_frame_equal(anndata.read_zarr(tmp_path / "table.zarr").obs, one.obs)
    dataset = xr.Dataset(
        {"x": (("T", "LEV"), np.ones((2, 3))), "y": (("t", "lev"), np.ones((4, 5)))},
        {"T": [1, 2], "t": [1, 2, 3, 4], "LEV": [1.0, 2, 3], "lev": [1.0, 2, 3, 4, 5]},
    )
    dataset.to_netcdf(source, engine="h5netcdf")
    assert convert(source, tmp_path / "a.zarr", zarr_format=zarr_format, verify=True).exit_code == 0
    with xr.open_zarr(tmp_path / "a.zarr") as found:
        xr.testing.assert_equal(found.load(), dataset)


def write_neurodata(path: Path) -> None:
    """Write a small NWB file: electrodes, signals that share their times, a table of trials, units with spikes."""
    pynwb = pytest.importorskip("pynwb")
    data = pynwb.NWBFile("made for a test", "id", datetime(2025, 1, 1, tzinfo=UTC), experimenter=["A, B", "C, D"])
    device = data.create_device(name="probe")
    group = data.create_electrode_group("shank", description="one", location="brain", device=device)
    for i in range(4):
        data.add_electrode(group=group, location="here", x=float(i))
    electrodes = data.create_electrode_table_region(list(range(4)), "all")
    values = np.random.default_rng(0).integers(-100, 100, (200, 4)).astype("i2")
    raw = pynwb.ecephys.ElectricalSeries(name="raw", data=values, electrodes=electrodes, rate=1000.0)
    data.add_acquisition(raw)
    first = pynwb.TimeSeries(name="first", data=np.arange(50.0), unit="m", timestamps=np.arange(50) / 10)
    data.add_acquisition(first)
    data.add_acquisition(pynwb.TimeSeries(name="second", data=np.arange(50.0), unit="m", timestamps=first))
    data.add_acquisition(pynwb.TimeSeries(name="third", data=first, unit="m", rate=1.0, resolution=np.nan))
    data.add_trial_column("good", "whether it was")
    for i in range(5):
        data.add_trial(start_time=float(i), stop_time=i + 0.5, good=bool(i % 2), timeseries=[first, raw])
        data.add_epoch(float(i), i + 0.5, ["x"], [first])
    data.add_unit(spike_times=[0.1, 0.2, 0.3], electrodes=[0, 1])
    data.add_unit(spike_times=[1.0, 2.0], electrodes=[2])
    electrode = data.create_icephys_electrode(name="pipette", description="one", device=device)
    shared = {"data": np.arange(10.0), "starting_time": 0.0, "rate": 10.0, "electrode": electrode, "gain": 0.02}
    stimulus = pynwb.icephys.VoltageClampStimulusSeries(name="stimulus", **shared)
    response = pynwb.icephys.VoltageClampSeries(name="response", **shared)
    data.add_intracellular_recording(electrode=electrode, stimulus=stimulus, response=response)
    data.add_intracellular_recording(electrode=electrode, stimulus=stimulus)
    data.add_icephys_simultaneous_recording(recordings=[0, 1])
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(data)


@pytest.mark.parametrize(
    "options", [{"names": "portable"}, {"compounds": "columns"}, {"links": "copy"}, {"nan": "text"}, {}]
)
def test_the_report_warns_of_what_hdmf_zarr_does_not_open(tmp_path: Path, options: dict[str, Any]) -> None:
    pynwb = pytest.importorskip("pynwb")
    hdmf_zarr = pytest.importorskip("hdmf_zarr", minversion="0.14")
    data = pynwb.NWBFile("made for a test", "id", datetime(2025, 1, 1, tzinfo=UTC))
    series = pynwb.TimeSeries(name="series", data=[1.0], unit="m", rate=1.0, resolution=np.inf)
    data.add_acquisition(series)
    data.add_trial_column("is it?", "whether it was")
    data.add_trial(start_time=0.0, stop_time=1.0, timeseries=[series], **{"is it?": True})
    electrode = data.create_icephys_electrode(name="e", description="one", device=data.create_device("probe"))
    shared = {"data": [1.0], "starting_time": 0.0, "rate": 1.0, "electrode": electrode, "gain": 0.02}
    data.add_acquisition(pynwb.icephys.VoltageClampSeries(name="response", **shared))
    with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(data)
    report = convert(tmp_path / "a.nwb", tmp_path / "a.zarr", **options)
    warned = [note.note for note in report.notes if note.kind == "reader"]
    assert [note.startswith("hdmf-zarr (NWB)") for note in warned] == [True] * len(options)
    with hdmf_zarr.NWBZarrIO(str(tmp_path / "a.zarr"), "r") as io:
        if options:
            with pytest.raises(Exception, match=r"Could not construct|must pass DatasetBuilder"):
                io.read().trials.to_dataframe()
        else:
            assert io.read().trials.to_dataframe()["is it?"].tolist() == [True]


@pytest.mark.parametrize("options", [{"names": "portable"}, {"compounds": "columns"}])
def test_the_report_warns_of_what_anndata_does_not_open(tmp_path: Path, options: dict[str, Any]) -> None:
    anndata, pd = pytest.importorskip("anndata"), pytest.importorskip("pandas")
    data = anndata.AnnData(np.ones((2, 1)), obs=pd.DataFrame({"%mito": [1.0, 2.0]}, index=["a", "b"]))
    data.uns["table"] = np.zeros(2, [("x", "i4")])
    data.write_h5ad(tmp_path / "a.h5ad")
    report = convert(tmp_path / "a.h5ad", tmp_path / "a.zarr", **options)
    assert [note.note[:7] for note in report.notes if note.kind == "reader"] == ["AnnData"]
    with pytest.raises(Exception, match=r"not found in consolidated|No read method registered"):
        anndata.read_zarr(tmp_path / "a.zarr")


def comparable(value: Any) -> Any:
    """Return a field of an NWB object in a form that can be compared; other objects are their identifiers."""
    if hasattr(value, "object_id"):
        return value.object_id
    if isinstance(value, Mapping):
        return {name: comparable(item) for name, item in value.items()}
    if isinstance(value, (str, bytes)):
        return value.decode() if isinstance(value, bytes) else str(value)
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "shape"):
        return [comparable(item) for item in np.asarray(value[()]).ravel().tolist()]
    if isinstance(value, (list, tuple)):
        return [comparable(item) for item in value]
    return value


def list_rows(cell: Any) -> Any:
    """Return a table, or a cell of one, as lists: references are the identifiers of what they refer to."""
    if hasattr(cell, "itertuples"):
        return [list_rows(tuple(row)) for row in cell.itertuples()]
    return [list_rows(item) for item in cell] if isinstance(cell, (list, tuple)) else comparable(cell)


@FORMATS
@pytest.mark.parametrize("copied", [True, False])
def test_hdmf_zarr_reads_the_store_as_pynwb_reads_the_file(
    zarr_format: Literal[2, 3], copied: bool, tmp_path: Path
) -> None:
    pynwb = pytest.importorskip("pynwb")
    hdmf_zarr = pytest.importorskip("hdmf_zarr", minversion="0.14")  # the first that reads Zarr format 3
    reader = hdmf_zarr.NWBZarrIO if zarr_format == 3 else hdmf_zarr.NWBZarrV2IO
    source, target = tmp_path / "a.nwb", tmp_path / "a.nwb.zarr"
    write_neurodata(source)
    if copied:
        assert convert(source, target, zarr_format=zarr_format, verify=True).exit_code == 0
    store = str(target) if copied else ZarrStore(source, zarr_format=zarr_format)
    with pynwb.NWBHDF5IO(source, "r") as one, reader(store, "r") as other:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Inferred dtype")
            before, after = one.read(), other.read()
        expected, found = before.objects, after.objects
        assert expected.keys() == found.keys()
        for key, item in expected.items():
            assert type(found[key]) is type(item)
            for name, value in item.fields.items():
                assert comparable(found[key].fields[name]) == comparable(value), (item.name, name)
        for name in ("trials", "epochs", "electrodes", "units", "intracellular_recordings"):
            one_table, other_table = (getattr(data, name).to_dataframe() for data in (before, after))
            assert list_rows(other_table) == list_rows(one_table), name
        assert after.trials["timeseries"][1][0].timeseries is after.acquisition["first"]
        assert after.acquisition["third"].data[:3].tolist() == [0.0, 1.0, 2.0]
        assert not pynwb.validate(io=other)
