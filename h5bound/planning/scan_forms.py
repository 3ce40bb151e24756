"""Note what is in a store in another form than h5py reads. :mod:`h5bound.reports.forms` describes the kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h5py import h5t

from h5bound.hdf5.datatypes import list_leaves, strip_arrays
from h5bound.hdf5.element_types import is_only_bytes, read_dtype
from h5bound.hdf5.type_json import describe_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.planning.options import Settings
    from h5bound.planning.scan_context import ScanContext
    from h5bound.planning.scan_log import ScanLog
    from h5bound.reports.forms import Kind
    from h5bound.zarr_model.dtypes import ZarrType
    from h5bound.zarr_model.parts import Part

ANNDATA, HDMF, HYPERSPY = "AnnData", "hdmf-zarr (NWB)", "HyperSpy"
"""Readers that know their files by the names and types of all that is in them."""

SHOWN = 4
"""Most members that a note names."""

OUTSIDE = {
    "virtual": "virtual: the store holds its values, not where they come from",
    "external": "external storage: the store holds its values",
}
"""What is noted of a dataset whose values lie elsewhere, by its layout."""

GROUPS: tuple[tuple[Kind, str], tuple[Kind, str]] = (
    ("sequences", "a group with the arrays values and offsets"),
    ("columns", "a group with an array for each member"),
)
"""Of a dataset that becomes a group, by whether it is of compounds."""

PATHS = (
    (h5t.STD_REF_OBJ, "paths of their targets, as text"),
    (h5t.STD_REF_DSETREG, "paths of their targets and what they select there, as JSON text"),
)
"""What references become, by their type."""


def note_forms(
    context: ScanContext, record: DatasetRecord, tid: h5t.TypeID, *, zarr_type: ZarrType, parts: Sequence[Part]
) -> None:
    """Note each way in which the store has another form of a dataset."""
    for kind, text in list_forms(record, tid, zarr_type=zarr_type, parts=parts):
        context.log.note(record.path, text, kind)


def list_forms(
    record: DatasetRecord, tid: h5t.TypeID, *, zarr_type: ZarrType, parts: Sequence[Part]
) -> Iterator[tuple[Kind, str]]:
    """Yield the kind of each other form of a dataset, and a text that says which it is."""
    if record.shape is None:
        yield "null", "an array of no elements, where h5py reads Empty"
    if record.layout in OUTSIDE:
        yield "outside", OUTSIDE[record.layout]
    if parts:
        yield GROUPS[bool(zarr_type.dtype.names)]
    elif strip_arrays(tid)[1]:
        yield "array_type", "the axes of its elements are the last axes of the array"
    if tid.get_class() not in (h5t.INTEGER, h5t.FLOAT):
        yield from list_leaf_forms(tid, is_struct=zarr_type.dtype.names is not None and not parts)
    forms = [*name_wide(tid), *name_odd_text(zarr_type, parts)]
    if forms:
        yield "bytes", ", ".join(forms)


def name_wide(tid: h5t.TypeID) -> Iterator[str]:
    """Yield what in a type Zarr has only as bytes, after the names of the members."""
    wide: dict[str, list[str]] = {}
    for name, leaf in list_leaves(tid):
        if is_only_bytes(leaf):
            wide.setdefault(describe_class(leaf), []).append(name)
    for what, names in wide.items():
        yield f"{name_members(names)}{what}"


def name_odd_text(zarr_type: ZarrType, parts: Sequence[Part]) -> Iterator[str]:
    """Yield that text is bytes, after the names of the members."""
    odd = [part.steps for part in parts if part.type.form == "bytes"]
    if zarr_type.form == "bytes" or odd:
        names = [".".join(step for step in steps if isinstance(step, str)) for steps in odd]
        yield f"{name_members(names)}text, not all of it UTF-8: value.decode('cp1252') if it is Windows-1252"


def list_leaf_forms(tid: h5t.TypeID, *, is_struct: bool) -> Iterator[tuple[Kind, str]]:
    """Yield the other forms of what a type holds; `is_struct`: as members of a struct."""
    leaves = list(list_leaves(tid))
    enums = [name for name, leaf in leaves if leaf.get_class() == h5t.ENUM and read_dtype(leaf).kind in "iu"]
    if enums:
        yield "enumeration", f"{name_members(enums)}numbers in place of names"
    for reference, text in PATHS:
        names = [name for name, leaf in leaves if leaf.get_class() == h5t.REFERENCE and leaf.equal(reference)]
        if names:
            yield "references", f"{name_members(names)}{text}"
    texts = [name for name, leaf in leaves if leaf.get_class() == h5t.STRING and leaf.is_variable_str()]
    if texts and is_struct:
        yield "text", f"{name_members(texts)}text of fixed length, that of the longest, in UTF-32"


def name_members(names: Iterable[str]) -> str:
    """Return the beginning of a note that names members of a compound, of many the first ones; "" if there are none.

    >>> name_members(["a", "b.c"]), name_members([""])
    ('members a, b.c: ', '')
    """
    shown = list(dict.fromkeys(filter(None, names)))
    if not shown:
        return ""
    more = f", … {len(shown) - SHOWN:,} more" if len(shown) > SHOWN else ""
    return f"member{'s' if len(shown) > 1 else ''} {', '.join(shown[:SHOWN])}{more}: "


def find_reader(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Return which of AnnData, with MuData, and HyperSpy wrote a file with groups of these attributes; "" if neither.

    In a file of AnnData the root says so from 0.8 on.
    """
    if groups.get("/", {}).get("file_format") == HYPERSPY:
        return HYPERSPY
    return ANNDATA if any("encoding-type" in groups.get(path, ()) for path in ("/", "/obs", "/var")) else ""


def note_reader(log: ScanLog, settings: Settings, *, reader: str) -> None:
    """Note what keeps a reader that knows its files by their names and types from a store as the options make it."""
    if not reader:
        return
    kinds = {note.kind for note in log.notes}
    if "renamed" in kinds:
        kept = (
            "names='exact' keeps most" if settings.names == "portable" else "a zip file holds names that TARGET cannot"
        )
        log.note("/", f"{reader} looks for objects by their names, and does not find renamed ones: {kept}", "reader")
    if "columns" in kinds:
        advice = ": compounds='struct' writes structs" if settings.compounds == "columns" else ""
        log.note("/", f"{reader} does not open a store with compounds as columns{advice}", "reader")
    if reader == HYPERSPY and "sequences" in kinds:
        log.note("/", f"{reader} does not load ragged signals from Zarr of today: they are sequences here", "reader")
    if reader == HDMF and "nan" in kinds and settings.nan == "text":
        log.note("/", f"{reader} takes no text for a number that is NaN: nan='literal' writes the number", "reader")
    if reader == HDMF and "copy" in kinds:
        log.note("/", f"{reader} opens no store with copies in place of links: links='keep' keeps links", "reader")
