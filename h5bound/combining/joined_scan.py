"""The scan of many files as if they were one: what joined variables are, and where their elements come from."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.conversions import apply
from h5bound.combining.file_scan import name_dtype
from h5bound.combining.join_plan import FileChunks
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS
from h5bound.planning.pieces import NO_FILE, Pieces
from h5bound.zarr_model.dtypes import ZarrType
from h5bound.zarr_model.fill_values import FillValue, find_zarr_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from h5bound.combining.file_scan import FileScan, VariableSchema
    from h5bound.combining.joined import Joined, JoinedVariable
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.reports.entries import Skipped

ALL_FILES = 0
"""Number of all files together among the origins; the files that variables are taken from have those after it."""


def join_scans(
    joined: Joined, files: Sequence[FileScan], *, templates: Mapping[int, SourceScan], many: Any, zarr_format: int
) -> SourceScan:
    """Return the scan of the store. `files` and the numbers of `templates` are in the final order.

    `templates` are the scans of the files that attributes and schemas are taken from, the first one among them, and
    `many` is a `ManyFiles` of all files.
    """
    first, scans = templates[0], [*templates.values()][::-1]  # what several have is that of the first
    numbers = {file: number for number, file in enumerate(templates, start=ALL_FILES + 1)}
    datasets = []
    for variable in joined.variables.values():
        item = next(one for one in templates[variable.source].datasets if one.record.path == variable.path)
        item = replace(item, attributes=variable.attributes)
        if variable.axis is None:
            datasets.append(replace(item, origin=numbers[variable.source]))
        else:
            datasets.append(join_dataset(item, variable, files, zarr_format=zarr_format))
    groups = {group.path: group for scan in scans for group in scan.groups}
    details = {path: found for scan in scans for path, found in scan.details.items()}
    details |= {variable.path: variable.details for variable in joined.variables.values()}
    return replace(
        first,
        origins=(replace(first.origins[0], source=many), *(scan.origins[0] for scan in templates.values())),
        targets={path: target for scan in scans for path, target in scan.targets.items()},
        groups=tuple(
            replace(groups[path], attributes=attributes, origin=numbers[0])
            for path, attributes in joined.groups.items()
        ),
        datasets=tuple(datasets),
        details={path: found for path, found in details.items() if found},
        skipped=tuple(merge_skipped(files)),
        external_states={path: state for file in files for path, state in file.external_states.items()},
    )


def merge_skipped(files: Iterable[FileScan]) -> list[Skipped]:
    """Return what is skipped in any file, each once."""
    return list(dict.fromkeys(item for file in files for item in file.skipped))


def join_dataset(
    item: DatasetScan, variable: JoinedVariable, files: Sequence[FileScan], *, zarr_format: int
) -> DatasetScan:
    """Return the scan of a joined variable; `item` is that of one file."""
    schema, ndim = variable.schema, len(variable.shape) - len(item.type.element_shape)
    found = [file.variables.get(variable.path) for file in files]
    changed = schema.form == "plain" and name_dtype(item.type.dtype) != schema.dtype
    if changed:
        item = convert_type(item, schema, zarr_format)
    is_new = len(variable.shape) > len(item.shape)
    names = schema.dimensions
    return replace(
        item,
        origin=ALL_FILES,
        record=replace(
            item.record,
            shape=variable.shape[:ndim],
            chunks=None if schema.chunks is None else schema.chunks[:ndim],
            stored_nbytes=sum(one.stored_nbytes for one in found if one is not None),
        ),
        manifest=None,
        dimension_names=names,
        pieces=make_pieces(variable, item, is_new=is_new),
    )


def convert_type(item: DatasetScan, schema: VariableSchema, zarr_format: int) -> DatasetScan:
    """Return the scan of a dataset whose values are converted to another type."""
    dtype = np.dtype(schema.dtype)
    fill, exact = json.loads(schema.fill)
    checked: Any = zarr_format
    if fill is None:  # format 2: all chunks are written
        value = item.fill.value.astype(dtype)
    else:
        value = np.array(find_zarr_type(dtype, checked).from_json_scalar(fill, zarr_format=checked), dtype)
    zarr_type = ZarrType(form="plain", source=dtype, dtype=dtype, reason="values are converted")
    return replace(
        item,
        type=replace(zarr_type, element_shape=item.type.element_shape),
        fill=FillValue(value, fill, exact=exact),
        record=replace(item.record, dtype=dtype),
    )


def make_pieces(variable: JoinedVariable, item: DatasetScan, *, is_new: bool) -> Pieces:
    """Return where the elements of a variable come from."""
    lengths = np.diff(variable.starts)
    kept = np.flatnonzero(lengths)
    convert = {
        number: partial(apply, conversion)
        for number, conversion in enumerate(variable.conversions)
        if conversion is not None
    }
    axis = variable.axis
    assert axis is not None
    return Pieces(
        axis=axis,
        is_new=is_new,
        bounds=np.append(variable.starts[:-1][kept], variable.starts[-1]),
        files=np.where(variable.missing[kept], NO_FILE, kept),
        skipped=variable.skips[kept],
        fill=item.fill.value,
        conversions=convert,
    )


def list_file_chunks(variable: JoinedVariable, files: Sequence[FileScan]) -> dict[int, FileChunks]:
    """Return what each file stores of a variable, by the number of the file."""
    found: dict[int, FileChunks] = {}
    for number, file in enumerate(files):
        one = file.variables.get(variable.path)
        if one is not None:
            found[number] = FileChunks(
                manifest=one.manifest,
                chunks=one.schema.chunks,
                is_stored=one.stored_nbytes > 0 or one.schema.layout in EXTERNAL_LAYOUTS,
                is_same=bool(variable.copied[number]),
                has_fill=bool(variable.unwritten[number]),
            )
    return found
