"""The scan of many files as if they were one: what joined variables are, and where their elements come from."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.conversions import apply
from h5bound.combining.file_scan import name_dtype, write_json
from h5bound.combining.joined_attributes import NodeAttributes
from h5bound.combining.stored_chunks import FileChunks
from h5bound.errors import OptionError
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS
from h5bound.planning.pieces import IN_STORE, NO_FILE, Pieces
from h5bound.zarr_model.array_spec import translate_filters
from h5bound.zarr_model.dtypes import ZarrType
from h5bound.zarr_model.fill_values import FillValue, fill_from_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from h5bound.combining.file_scan import FileScan, VariableSchema
    from h5bound.combining.joined import Joined, JoinedVariable
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.reports.entries import ReportNote
    from h5bound.zarr_model.byte_layout import DType

ALL_FILES = 0
"""Number of all files together among the origins; the files that variables are taken from have those after it."""


def find_template(variable: JoinedVariable, files: Sequence[FileScan]) -> int:
    """Return the number of the file that says how a variable is read: its source, or the first one that is read.

    Raise OptionError if no file that is read has it.
    """
    if not files[variable.source].in_store:
        return variable.source
    for number, file in enumerate(files):
        if variable.path in file.variables and not file.in_store:
            return number
    raise explain_absent(variable.path, files[variable.source])


def explain_absent(path: str, file: FileScan) -> OptionError:
    """Return the error for an object that no file has which is read."""
    return OptionError(f"{path}: of the files that are named none has it; name {file.path} of the store too")


def join_scans(
    joined: Joined, files: Sequence[FileScan], *, templates: Mapping[int, SourceScan], many: Any, zarr_format: int
) -> SourceScan:
    """Return the scan of the store. `files` and the numbers of `templates` are in the final order.

    `templates` are the scans of the files that say how variables are read, in their order, the first one that is read
    among them, and `many` is a `ManyFiles` of all files.
    """
    scans = [*templates.values()][::-1]  # what several have is that of the first
    first = scans[-1]
    numbers = {file: number for number, file in enumerate(templates, start=ALL_FILES + 1)}
    datasets = []
    for variable in joined.variables.values():
        template = find_template(variable, files)
        item = next(one for one in templates[template].datasets if one.record.path == variable.path)
        item = replace(item, attributes=variable.attributes)
        if variable.axis is None:
            datasets.append(replace(item, origin=numbers[template]))
        else:
            datasets.append(join_dataset(item, variable, files, zarr_format=zarr_format))
    groups = {group.path: group for scan in scans for group in scan.groups}
    for path in joined.groups.keys() - groups.keys():
        raise explain_absent(path, next(file for file in files if path in file.groups))
    details = {path: found for scan in scans for path, found in scan.details.items()}
    details |= {variable.path: variable.details for variable in joined.variables.values()} | dict(joined.group_details)
    return replace(
        first,
        origins=(replace(first.origins[0], source=many), *(scan.origins[0] for scan in templates.values())),
        targets={path: target for scan in scans for path, target in scan.targets.items()},
        groups=tuple(
            replace(groups[path], attributes=attributes, origin=ALL_FILES + 1)
            for path, attributes in joined.groups.items()
        ),
        datasets=tuple(datasets),
        details={path: found for path, found in details.items() if found},
        skipped=tuple(dict.fromkeys(item for file in files for item in file.skipped)),  # each once
        notes=tuple(merge_notes(joined, files, templates)),
        external_states={path: state for file in files for path, state in file.external_states.items()},
    )


def merge_notes(joined: Joined, files: Sequence[FileScan], templates: Mapping[int, SourceScan]) -> Iterator[ReportNote]:
    """Yield the notes on what the store has: those of the file that says how a variable is read, else of the first."""
    first = min(templates)
    for number, scan in templates.items():
        paths = {item.record.path for item in scan.datasets}
        for note in scan.notes:
            variable = joined.variables.get(note.path)
            if variable is None and number == first and note.path not in paths:
                yield note
            if variable is not None and number == find_template(variable, files) and has_attribute(variable, note):
                yield note


def has_attribute(variable: JoinedVariable, note: ReportNote) -> bool:
    """Return whether a note is on something that a variable has in the store: its values may be unpacked there."""
    return (
        note.attribute is None or note.attribute in NodeAttributes(variable.attributes, variable.details).list_names()
    )


def join_dataset(
    item: DatasetScan, variable: JoinedVariable, files: Sequence[FileScan], *, zarr_format: int
) -> DatasetScan:
    """Return the scan of a joined variable; `item` is that of one file."""
    schema, ndim = variable.schema, len(variable.shape) - len(item.type.element_shape)
    if schema.form == "plain" and name_dtype(item.type.dtype) != schema.dtype:
        item = convert_type(item, schema, zarr_format)
    if files[variable.source].in_store:
        item = restore_storage(item, schema, zarr_format)
    own = [file.variables[variable.path] for file in files if variable.path in file.variables and not file.in_store]
    return replace(
        item,
        origin=ALL_FILES,
        record=replace(
            item.record,
            shape=variable.shape[:ndim],
            chunks=None if schema.chunks is None else schema.chunks[:ndim],
            stored_nbytes=sum(one.stored_nbytes for one in own),
        ),
        manifest=None,
        dimension_names=schema.dimensions,
        pieces=make_pieces(variable, item, files),
    )


def convert_type(item: DatasetScan, schema: VariableSchema, zarr_format: int) -> DatasetScan:
    """Return the scan of a dataset whose values are converted to another type, or another order of bytes."""
    dtype = np.dtype(schema.dtype)
    is_swapped = item.type.dtype == dtype.newbyteorder()  # then the filters of the file make the same array
    reason = item.type.reason if is_swapped else "values are converted"
    zarr_type = ZarrType(form="plain", source=dtype, dtype=dtype, reason=reason)
    return replace(
        item,
        type=replace(zarr_type, element_shape=item.type.element_shape),
        fill=restore_fill(item.fill, schema, dtype=dtype, zarr_format=zarr_format),
        record=replace(item.record, dtype=dtype),
    )


def restore_fill(fill: FillValue, schema: VariableSchema, *, dtype: DType, zarr_format: int) -> FillValue:
    """Return the fill value of a schema of plain numbers; `fill` is that of one file."""
    shown, exact = json.loads(schema.fill)
    # format 2 may have none: then all chunks are written
    value = fill.value.astype(dtype) if shown is None else fill_from_json(shown, dtype, zarr_format)
    return FillValue(value, shown, exact=exact)


def restore_storage(item: DatasetScan, schema: VariableSchema, zarr_format: int) -> DatasetScan:
    """Return the scan of a dataset with the filters and the fill value of those that the store has already."""
    checked: Any = zarr_format
    if item.record.layout != schema.layout or item.record.filters != schema.filters:
        record = replace(item.record, layout=schema.layout, filters=schema.filters)
        chain, reason = translate_filters(record, checked)
        item = replace(item, record=record, copy_chain=chain, no_copy_reason=reason)
    if schema.form == "plain" and write_json([item.fill.json, item.fill.exact]) != schema.fill:
        fill = restore_fill(item.fill, schema, dtype=item.type.dtype, zarr_format=zarr_format)
        item = replace(item, fill=fill)
    return item


def make_pieces(variable: JoinedVariable, item: DatasetScan, files: Sequence[FileScan]) -> Pieces:
    """Return where the elements of a variable come from; `item` is the dataset of one file."""
    kept = np.flatnonzero(np.diff(variable.starts))
    in_store = np.array([file.in_store for file in files])[kept]
    assert variable.axis is not None
    return Pieces(
        axis=variable.axis,
        is_new=len(variable.shape) > len(item.shape),
        bounds=np.append(variable.starts[:-1][kept], variable.starts[-1]),
        files=np.where(variable.missing[kept], NO_FILE, np.where(in_store, IN_STORE, kept)),
        skipped=variable.skips[kept],
        fill=item.fill.value if variable.filler is None else variable.filler,
        conversions={
            number: partial(apply, conversion)
            for number, conversion in enumerate(variable.conversions)
            if conversion is not None
        },
    )


def list_file_chunks(variable: JoinedVariable, files: Sequence[FileScan]) -> dict[int, FileChunks]:
    """Return what each file stores of a variable, by the number of the file.

    Under IN_STORE what the store has, under NO_FILE what is in the place of files that lack it, unless it is the fill
    value.
    """
    found: dict[int, FileChunks] = {}
    if variable.filler is not None:
        found[NO_FILE] = FileChunks(manifest=None, chunks=None, is_stored=True, is_same=False, has_fill=False)
    for number, file in enumerate(files):
        one = file.variables.get(variable.path)
        if one is not None:
            found[IN_STORE if file.in_store else number] = FileChunks(
                manifest=one.manifest,
                chunks=one.schema.chunks,
                is_stored=one.stored_nbytes > 0 or one.schema.layout in EXTERNAL_LAYOUTS,
                is_same=bool(variable.copied[number]),
                has_fill=bool(variable.unwritten[number]),
            )
    return found
