"""References and links lead to the nodes of the store, whatever their names are, and what leads elsewhere is noted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pytest
import zarr

from h5bound import convert
from h5bound.planning.scan_references import LEADS_NOWHERE
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMATS = pytest.mark.parametrize("zarr_format", [3, 2])
Format = Literal[2, 3]

NAMES = ["plain", "zarr.json", "a\\b", "%7Aarr.json", "T", "t", "x:y", "group/..", "n\udcff"]
"""Paths of datasets; some are renamed in any store."""


def write_references(path: Path) -> None:
    """Write datasets that hold a number each, and references to them of each kind, in the same order."""
    with h5py.File(path, "w") as file:
        raw_names = [name.encode("utf-8", "surrogateescape") for name in NAMES]
        targets = [file.create_dataset(name, data=number) for number, name in enumerate(raw_names)]
        references = np.array([target.ref for target in targets], h5py.ref_dtype)
        file["~refs/values"] = references
        rows = np.empty(len(NAMES), [("n", "i4"), ("to", h5py.ref_dtype)])
        rows["n"], rows["to"] = np.arange(len(NAMES)), references
        file["~refs/rows"] = rows
        lists = file.create_dataset("~refs/lists", (1,), h5py.vlen_dtype(h5py.ref_dtype))
        lists[0] = references
        for number, target in enumerate(targets):
            file["~refs"].attrs[f"a{number}"] = target.ref
            file[f"~refs/h{number}"] = target
            group = file["~refs"]
            group.id.links.create_soft(f"s{number}".encode(), b"/" + raw_names[number])
        file["~refs/up"] = h5py.SoftLink("s1")


def read(root: zarr.Group, path: str) -> Any:
    """Return the values of the array at a path of a store."""
    array = root[path]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[...])


def list_paths(root: zarr.Group, details: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield the paths to which all references of a kind lead, in the order of their targets."""
    attributes: dict[str, Any] = dict(root["~refs"].attrs)
    yield "values", read(root, "~refs/values").tolist()
    yield "compounds", read(root, "~refs/rows")["to"].tolist()
    yield "sequences", read(root, "~refs/lists/values").tolist()
    yield "attributes", [attributes[f"a{number}"] for number in range(len(NAMES))]
    links = {link["name"]: link["path"] for link in details["~refs"]["links"]}
    yield "hard links", [links[f"h{number}"] for number in range(len(NAMES))]
    yield "soft links", [links[f"s{number}"] for number in range(len(NAMES))]
    yield (
        "a soft link to a soft link",
        [links["h0"], links["up"], *(links[f"h{number}"] for number in (2, 3, 4, 5, 6, 7, 8))],
    )


@FORMATS
@pytest.mark.parametrize("names", ["exact", "portable"])
def test_every_reference_and_link_leads_to_its_node(
    names: Literal["exact", "portable"], zarr_format: Format, tmp_path: Path
) -> None:
    write_references(tmp_path / "a.h5")
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", names=names, zarr_format=zarr_format, verify=True)
    assert report.exit_code == 0
    with quiet_zarr():
        root = zarr.open_group(tmp_path / "a.zarr", mode="r")
        details = json.loads((tmp_path / "a.zarr" / "h5bound.json").read_text())["details"]
        for kind, paths in list_paths(root, details):
            assert [int(read(root, path)) for path in paths] == list(range(len(NAMES))), kind


def test_what_references_lead_to_outside_the_store_is_noted(tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        kept, left, gone = (file.create_dataset(name, data=1) for name in ("kept", "left", "gone"))
        file["type"] = np.dtype("i4")
        regions = {"left": left.regionref[()], "gone": gone.regionref[()]}
        kinds = {"left": left.ref, "type": file["type"].ref, "gone": gone.ref, "null": h5py.Reference()}
        for name, reference in kinds.items():
            file.create_dataset(f"values/{name}", data=np.array([kept.ref, reference], h5py.ref_dtype))
            lists = file.create_dataset(f"lists/{name}", (1,), h5py.vlen_dtype(h5py.ref_dtype))
            lists[0] = np.array([kept.ref, reference], h5py.ref_dtype)
            rows = np.array([(kept.ref,), (reference,)], [("to", h5py.ref_dtype)])
            file.create_dataset(f"rows/{name}", data=rows)
            file.create_group(f"attributes/{name}").attrs["to"] = reference
            if name in regions:
                file.create_dataset(f"regions/{name}", data=np.array([regions[name]], h5py.regionref_dtype))
        del file["gone"]
    report = convert(source, target, exclude=["/left"], verify=True)
    assert report.exit_code == 0
    notes = {note.path: note.note for note in report.notes if "refers" in note.note}
    for kind in ("values", "lists", "rows", "attributes"):
        assert notes.pop(f"/{kind}/left") == "it refers to what is not in the store: /left"
        assert notes.pop(f"/{kind}/type") == "it refers to what is not in the store: /type"
        assert notes.pop(f"/{kind}/gone") == LEADS_NOWHERE
    assert notes.pop("/regions/left") == "it refers to what is not in the store: /left"
    assert notes.pop("/regions/gone") == LEADS_NOWHERE
    assert notes == {}
    root = zarr.open_group(target, mode="r")
    expected = {"left": "/left", "type": "/type", "gone": "", "null": ""}
    for name, path in expected.items():
        assert read(root, f"values/{name}").tolist() == ["/kept", path]
        assert read(root, f"lists/{name}/values").tolist() == ["/kept", path]
        assert read(root, f"rows/{name}")["to"].tolist() == ["/kept", path]
        assert root[f"attributes/{name}"].attrs["to"] == path


def test_a_reference_leads_to_the_name_that_is_selected(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = 1
        file["b"] = file["a"]
        file["c"] = np.array([file["a"].ref], h5py.ref_dtype)
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", exclude=["/a"], verify=True)
    assert not [note for note in report.notes if "refers" in note.note]
    assert read(zarr.open_group(tmp_path / "a.zarr", mode="r"), "c").tolist() == ["/b"]


@FORMATS
def test_xarray_finds_the_coordinates_of_renamed_scales(zarr_format: Format, tmp_path: Path) -> None:
    xr = pytest.importorskip("xarray")
    source, target = tmp_path / "a.nc", tmp_path / "a.zarr"
    lengths = {"T": 2, "t": 3}
    coordinates = {name: np.arange(length) for name, length in lengths.items()}
    variables = {"x": (("T", "t"), np.ones((2, 3))), "y": (("bare:",), np.ones(4))}
    xr.Dataset(variables, coordinates).to_netcdf(source, engine="h5netcdf")
    assert convert(source, target, zarr_format=zarr_format, names="portable", verify=True).exit_code == 0
    with xr.open_zarr(target) as found:
        assert found.x.dims == ("%54", "t")
        assert found["%54"].values.tolist() == [0, 1]
        assert found.x.indexes.keys() == {"%54", "t"}
        assert found.y.dims == ("bare:",)
