"""What has another form in the store is noted: a small file for each kind of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5s, h5t

from h5bound import convert
from h5bound.reports.forms import FORMS
from tests.support.dimension_files import write_names_of_dimensions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from h5bound.reports.forms import Kind

SWITCH = h5py.enum_dtype({"OFF": 0, "ON": 1}, "i1")


def write_bytes(file: h5py.File) -> None:
    kind = h5t.create(h5t.COMPOUND, 32)
    for name, offset, member in ((b"i", 0, h5t.STD_I32LE), (b"t", 8, h5t.UNIX_D64LE), (b"l", 16, h5t.NATIVE_LDOUBLE)):
        kind.insert(name, offset, member)
    h5d.create(file.id, b"x", kind, h5s.create_simple((2,)))


def write_virtual(file: h5py.File) -> None:
    file["data"] = np.arange(4)
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource(".", "data", (4,))
    file.create_virtual_dataset("x", layout)


def write_label(file: h5py.File) -> None:
    file["x"] = np.zeros(2)
    file["x"].dims[0].label = "row"


def write_attribute(value: Any, name: str = "a", **options: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.create(name, value, **options)


CASES: dict[str, tuple[Callable[[h5py.File], Any], Kind, str]] = {
    "soft link": (lambda f: f.update({"x": h5py.SoftLink("/nowhere")}), "link", ""),
    "external link": (lambda f: f.update({"x": h5py.ExternalLink("no.h5", "/")}), "external_link", "not opened"),
    "committed type": (lambda f: f.update({"x": np.dtype("i4")}), "type", "committed type"),
    "node name": (lambda f: f.update({"zarr.json": [1]}), "renamed", "cannot hold"),
    "label": (write_label, "dimension", "labels, row"),
    "virtual dataset": (write_virtual, "outside", "virtual"),
    "null dataset": (lambda f: f.create_dataset("x", data=h5py.Empty("f4")), "null", "no elements"),
    "array type": (lambda f: f.create_dataset("x", (2,), "(3,)f4"), "array_type", "last axes"),
    "enumeration": (lambda f: f.create_dataset("x", data=[0, 1], dtype=SWITCH), "enumeration", "numbers"),
    "enumeration in a compound": (
        lambda f: f.create_dataset("x", (2,), [("i", "i4"), ("e", SWITCH)]),
        "enumeration",
        "member e: ",
    ),
    "sequences": (lambda f: f.create_dataset("x", (2,), h5py.vlen_dtype("i4")), "sequences", "offsets"),
    "columns": (lambda f: f.create_dataset("x", (2,), [("m", "f4", (2,))]), "columns", "each member"),
    "text in a compound": (
        lambda f: f.create_dataset("x", (2,), [("i", "i4"), ("s", h5py.string_dtype())]),
        "text",
        "member s: text of fixed length",
    ),
    "text that is not UTF-8": (lambda f: f.create_dataset("x", data=b"\xb0C", dtype=h5py.string_dtype()),
        "bytes", "text, not all of it UTF-8"),
    "types as bytes": (write_bytes, "bytes", "member t: 64-bit time, member l: 80-bit long double"),
    "references": (lambda f: f.create_dataset("x", (1,), h5py.ref_dtype), "references", "paths"),
    "references in a compound": (
        lambda f: f.create_dataset("x", (1,), [("i", "i4"), ("r", h5py.regionref_dtype)]),
        "references",
        "member r: paths of their targets and what they select",
    ),
    "complex attribute": (write_attribute(1j), "attribute", "complex"),
    "empty attribute": (write_attribute(h5py.Empty("f4")), "attribute", "empty (a null dataspace), shown as a list"),
    "empty text": (write_attribute(h5py.Empty("S1")), "attribute", "shown as empty text"),
    "attribute of an enumeration": (write_attribute(1, dtype=SWITCH), "attribute", "an enumeration"),
    "units in a list": (write_attribute(["m"], "units"), "attribute", "an array of one value"),
    "attribute of a reference": (lambda f: write_attribute(f.ref)(f), "reference_attribute", "in the store, as text"),
    "attribute of NaN": (write_attribute(np.nan), "nan", "nan='text'"),
}  # fmt: skip
"""A file, the kind of what has another form in it, and words of the note."""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("zarr_format", [3, 2])
def test_what_has_another_form_is_counted_and_named(tmp_path: Path, case: str, zarr_format: Any) -> None:
    write, kind, words = CASES[case]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file)
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", zarr_format=zarr_format)
    assert dict(report.forms) == {kind: 1}
    noun = FORMS[kind].noun
    assert f"in another form: 1 {noun}" in report.summary()
    assert f"in another form: {noun} " in repr(report) or kind == "link"
    assert [words in note.note for note in report.notes if note.kind == kind] == [True] * (kind != "link")


def test_every_kind_has_a_file() -> None:
    elsewhere = {"copy", "followed_link"}  # in the tests of links
    assert {kind for _, kind, _ in CASES.values()} | elsewhere == FORMS.keys()


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_what_h5py_reads_in_the_same_form_is_not_noted(tmp_path: Path, zarr_format: Any) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["bool"] = [True, False]
        file["complex"] = [1j]
        file["compound"] = np.zeros(2, [("a", "i4"), ("b", "S3")])
        file["text"] = "text"
        file["bytes"] = np.void(b"ab")
        file["never"] = np.zeros((0, 3), ">i2")
        file.attrs.update({"list": [1, 2], "single": np.float32(0.5), "text": "a", "bool": True})
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", zarr_format=zarr_format)
    assert (dict(report.forms), report.notes) == ({}, ())


ANNDATA, NWB = {"encoding-type": "anndata"}, {"nwb_version": "2.9"}


@pytest.mark.parametrize(
    ("attributes", "options", "warnings"),
    [
        pytest.param(ANNDATA, {}, [], id="AnnData"),
        pytest.param(ANNDATA, {"names": "portable"}, ["AnnData looks for objects by their names"], id="names"),
        pytest.param(ANNDATA, {"compounds": "columns"}, ["AnnData does not open a store with compounds"], id="columns"),
        pytest.param(
            NWB,
            {"compounds": "columns", "names": "portable", "nan": "text", "links": "copy"},
            ["looks for objects", "does not open a store with compounds", "takes no text", "copies in place of links"],
            id="NWB",
        ),
        pytest.param({}, {"compounds": "columns", "names": "portable", "nan": "text", "links": "copy"}, [], id="other"),
    ],
)
def test_a_store_that_the_reader_of_the_file_will_not_open_is_noted(
    tmp_path: Path, attributes: dict[str, str], options: dict[str, Any], warnings: list[str]
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs.update(attributes)
        file["obs/%mito"] = np.zeros(2, [("a", "i4")])
        file["obs/%mito"].attrs["a"] = np.nan
        file["again"] = file["obs"]
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", **options)
    notes = [note.note for note in report.notes if note.kind == "reader"]
    assert len(notes) == len(warnings)
    assert all(words in note for words, note in zip(warnings, notes, strict=True))
    assert ("warning: /: " in repr(report)) == bool(warnings)


def test_a_netcdf_variable_is_renamed_to_what_netcdf_shows_and_a_dimension_without_one_is_not(tmp_path: Path) -> None:
    write_names_of_dimensions(tmp_path / "a.nc")
    report = convert(tmp_path / "a.nc", tmp_path / "a.zarr")
    renamed = {note.path: (note.to, note.note) for note in report.notes if note.kind == "renamed"}
    shown = "the name that netCDF's readers show"
    assert renamed == {"/_nc4_non_coord_x": ("x", shown), "/_nc4_non_coord_z": ("z", shown)}
