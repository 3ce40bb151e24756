"""What is to be known of one dataset before its place in a store is planned."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5d

from h5bound.chunk_grid import ChunkGrid, count_chunks
from h5bound.errors import H5BoundError, SourceNotFoundError, UnsafeSourceError, UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.chunk_index import ChunkManifest, index_chunks
from h5bound.hdf5.datatypes import text_to_json
from h5bound.hdf5.dimension_scales import is_hidden
from h5bound.hdf5.external_check import EXTERNAL_LAYOUTS, check_external_files
from h5bound.hdf5.links import open_object
from h5bound.hdf5.virtual_mappings import list_boxes
from h5bound.reports import ReportNote, Skipped
from h5bound.zarr_model.array_spec import check_filters_installed, translate_filters
from h5bound.zarr_model.attributes import merge_metadata, read_attributes
from h5bound.zarr_model.byte_layout import is_opaque_only
from h5bound.zarr_model.dtypes import ZarrType, translate_type
from h5bound.zarr_model.fill_values import choose_fill_v2, read_fill_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from h5bound.chunk_grid import Shape
    from h5bound.files.file_state import LocalState
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.hdf5.dimension_scales import Dimensions
    from h5bound.hdf5.references import ReferencePaths
    from h5bound.planning.external_links import Origin
    from h5bound.planning.options import Settings
    from h5bound.reader.open_file import OpenFile
    from h5bound.zarr_model.array_spec import CodecChain
    from h5bound.zarr_model.dtypes import ZarrType
    from h5bound.zarr_model.fill_values import FillValue


@dataclass(frozen=True, slots=True, eq=False)
class DatasetScan:
    """What was read of one dataset."""

    record: DatasetRecord
    type: ZarrType
    target: str
    """path in the store"""
    kept: CodecChain | None
    """codecs that read the stored bytes; None where Zarr has none"""
    kept_reason: str
    """why not"""
    manifest: ChunkManifest | None
    """None unless the dataset is stored in chunks"""
    fill: FillValue
    attributes: Mapping[str, Any]
    dimension_names: tuple[str | None, ...] | None
    ends: NDArray[np.int64] | None = None
    """sequences: where each one ends in `values`, in C order of the dataset"""
    opaque_only: bool = False
    """whether h5py reads its type only as bytes"""
    dimensions: Dimensions | None = None
    """what its dimension scales say"""
    origin: int = 0
    """number of the file that it is in, among those of the survey"""
    boxes: NDArray[np.int64] | None = None
    """virtual: start and stop of what each of its parts covers, outside of which it holds the fill value"""

    @property
    def shape(self) -> Shape:
        """Of the array: (0,) for a null dataspace, the axes of an HDF5 array type at the end."""
        return ((0,) if self.record.shape is None else self.record.shape) + self.type.element_shape

    @property
    def chunks(self) -> Shape | None:
        """Of the array, where the dataset is stored in chunks."""
        return None if self.record.chunks is None else self.record.chunks + self.type.element_shape


LENGTHS_AT_ONCE = 65_536
"""Variable-length sequences that are counted at once."""

MAX_SPELLED = 1 << 16
"""Bytes of an element without a number or text in them, whatever is stored."""

MAX_RATIO = 1032
"""How much larger than what is stored they may be: as much as deflate makes of anything (zlib, Technical Details)."""

MAX_WIDENED = 1 << 30
"""Bytes of a chunk of compounds whose text has got one length."""

MAX_MASKED = 1 << 24
"""Bytes of a netCDF variable that is written as a whole in format 2, lest xarray mask what was never written."""

MAX_COUNTED = 10_000_000
"""Elements of varying length that are counted though the file has fewer bytes of them."""


@dataclass(slots=True)
class ScanLog:
    """What is gathered while a file is read."""

    skipped: list[Skipped] = field(default_factory=list)
    notes: list[ReportNote] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    external_states: dict[str, LocalState] = field(default_factory=dict)
    """what the files of external storage and virtual datasets were before they were opened, by their real paths"""

    def note_files(self, files: Mapping[str, LocalState]) -> None:
        """Keep what files were when they were first met."""
        for path, identity in files.items():
            self.external_states.setdefault(path, identity)

    def note_attributes(self, path: str, record: Any) -> None:
        """Keep what the attributes of an object leave open."""
        self.skipped += [Skipped(path, reason, attribute=name) for name, reason in record.skipped]
        self.notes += [ReportNote(path, note) for note in record.notes]
        self.add_details(path, record.details)

    def add_details(self, path: str, details: Mapping[str, Any]) -> None:
        """Keep what belongs into ``_h5bound`` of the root."""
        if details:
            self.details[path] = {**self.details.get(path, {}), **details}


@dataclass(frozen=True, slots=True, eq=False)
class ScanContext:
    """What the reading of each object needs."""

    opened: OpenFile
    origin: Origin
    number: int
    """of the origin"""
    settings: Settings
    allowed: tuple[Path, ...]
    targets: Mapping[str, str]
    """path in the store by path in the source"""
    resolve: ReferencePaths
    found: ScanLog

    def open(self, path: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
        """Give the object that stands at a path of the report."""
        return open_object(self.opened.file, self.origin.locate(path))


def scan_dataset(reading: ScanContext, record: DatasetRecord) -> DatasetScan | None:
    """Give what is to be known of a dataset; None, and a note of why, if it cannot be carried."""
    path = record.path
    if record.problem is not None:
        reading.found.skipped.append(Skipped(path, record.problem))
        return None
    try:
        if record.layout in EXTERNAL_LAYOUTS:
            reading.found.note_files(
                check_external_files(reading.opened.file, reading.origin.locate(path), reading.allowed)
            )
        return scan_values(reading, record)
    except (UnsafeSourceError, SourceNotFoundError) as error:
        reading.found.skipped.append(Skipped(path, str(error), unsafe=True))
        return None
    except UnsupportedError as error:
        reason = str(error)
    except (H5BoundError, *READ_ERRORS) as error:
        reason = f"h5py cannot read it: {describe(error)}"
    reading.found.skipped.append(Skipped(path, reason))
    return None


def scan_values(reading: ScanContext, record: DatasetRecord) -> DatasetScan:
    """Give what is to be known of a dataset.

    Raises
    ------
    UnsupportedError
        Zarr has no exact form for it.
    """
    settings = reading.settings
    dataset = reading.open(record.path)
    assert isinstance(dataset, h5py.Dataset)
    refuse_mere_declaration(record)
    kind = translate_type(dataset, zarr_format=settings.zarr_format, resolve=reading.resolve)
    refuse_widened(record, kind)
    if record.layout == "virtual":
        record = replace(record, shape=dataset.shape)
    attributes = read_attributes(
        dataset,
        zarr_format=settings.zarr_format,
        dtype=kind.dtype,
        netcdf=reading.origin.netcdf,
        resolve=reading.resolve,
    )
    fill = read_fill_value(dataset, kind, zarr_format=settings.zarr_format, resolve=reading.resolve)
    little = prod(record.shape or ()) * kind.dtype.itemsize <= MAX_MASKED
    if settings.zarr_format == 2 and (attributes.fill is not None or (reading.origin.netcdf and little)):
        fill = choose_fill_v2(fill, attributes.fill)
    chain, reason = translate_filters(record, kind, settings.zarr_format)
    inside = reading.origin.locate(record.path)
    ends = read_ends(reading.opened, inside, record.shape) if kind.form == "vlen" else None
    manifest = read_manifest(dataset, record) if record.layout == "chunked" else None
    if manifest is not None:
        check_filters_installed(record, manifest)
    elif record.layout == "chunked":
        chain, reason = None, "HDF5 does not list its chunks rightly"
    if settings.zarr_format == 2 and reading.origin.netcdf and fill.exact and has_holes(record, manifest):
        what = f"chunks never written: in format 2 xarray takes all that is equal to {fill.json!r} for missing"
        bare = attributes.dimensions is not None and attributes.dimensions.bare
        reading.found.notes += [] if bare or attributes.fill is not None else [ReportNote(record.path, what)]
    reading.found.note_attributes(record.path, attributes)
    reading.found.add_details(record.path, kind.details)
    target = reading.targets[record.path]
    marks = {**kind.metadata, **mark_shape(record, kind)}
    name = original_name(record.path, target)
    if reading.origin.netcdf and is_hidden(record.path):
        reading.found.add_details(record.path, name)  # so that xarray sees no more than in the file
    else:
        marks.update(name)
    values = merge_metadata({**kind.attributes, **attributes.values}, marks)
    opaque_only = is_opaque_only(dataset.id.get_type())
    axes = attributes.dimensions
    boxes = read_boxes(dataset, record)
    return DatasetScan(
        record,
        kind,
        target,
        chain,
        reason,
        manifest,
        fill,
        values,
        None,
        ends,
        opaque_only,
        axes,
        reading.number,
        boxes,
    )


def has_holes(record: DatasetRecord, manifest: ChunkManifest | None) -> bool:
    """Tell whether some of a dataset was never written."""
    if manifest is None or record.shape is None or record.chunks is None:
        return not record.stored_nbytes
    return len(manifest.chunk_coords) < prod(count_chunks(record.shape, record.chunks))


def read_boxes(dataset: h5py.Dataset, record: DatasetRecord) -> NDArray[np.int64] | None:
    """Give what the parts of a virtual dataset cover; None of another, or where HDF5 has no fill value for the rest."""
    plist = dataset.id.get_create_plist()
    if record.layout != "virtual" or not record.shape or plist.fill_value_defined() == h5d.FILL_VALUE_UNDEFINED:
        return None
    return list_boxes(plist, record.shape)


def refuse_mere_declaration(record: DatasetRecord) -> None:
    """Raise UnsupportedError if far more would have to be looked at, or written down, than the file can hold."""
    if record.dtype is None or record.shape is None:
        return
    size = record.dtype.base.itemsize  # Zarr's fill value of such a type is spelled out, twice
    if record.dtype.base.kind == "V" and size > max(MAX_SPELLED, MAX_RATIO * record.stored_nbytes):
        stored = f"{record.stored_nbytes:,} bytes of them stored"
        raise UnsupportedError(f"elements of {size:,} bytes are declared, {stored}: a fill value would be larger")
    sequences = h5py.check_vlen_dtype(record.dtype) is not None and h5py.check_string_dtype(record.dtype) is None
    counted = sequences or (record.dtype.names is not None and record.dtype.hasobject)
    elements = prod(record.shape)
    if counted and elements > max(record.stored_nbytes, MAX_COUNTED):
        raise UnsupportedError(
            f"{elements:,} elements of varying length are declared, {record.stored_nbytes:,} bytes of them stored: "
            "too many to look at each"
        )


def refuse_widened(record: DatasetRecord, kind: ZarrType) -> None:
    """Raise UnsupportedError if the longest text in a compound makes too much of a chunk: each gets its length."""
    nbytes = prod(record.chunks or ()) * kind.dtype.itemsize
    if kind.source.hasobject and kind.dtype.names and nbytes > MAX_WIDENED:
        raise UnsupportedError(f"the longest text in its compounds would make {nbytes:,} bytes of a chunk")


def mark_shape(record: DatasetRecord, kind: ZarrType) -> dict[str, Any]:
    """Give the marks of a dataset whose array does not have its shape."""
    if record.shape is None:
        return {"dataspace": "null"}
    return {"sequences": {"shape": list(record.shape)}} if kind.form == "vlen" else {}


def original_name(path: str, target: str) -> dict[str, Any]:
    """Give the mark of a node whose name in the store is not its own."""
    name = path.rpartition("/")[2]
    return {} if name == target.rpartition("/")[2] else {"name": text_to_json(name)}


def read_manifest(dataset: h5py.Dataset, record: DatasetRecord) -> ChunkManifest | None:
    """Give the stored chunks of a dataset, in C order of the grid; None where HDF5 lists others than these."""
    shape, chunks = record.shape or (), record.chunks or ()
    if not record.stored_chunks:
        nothing = np.zeros(0, np.int64)
        return ChunkManifest(
            chunk_coords=np.zeros((0, len(shape)), np.int64), offsets=nothing, nbytes=nothing, masks=nothing
        )
    return index_chunks(dataset.id, ChunkGrid(shape, chunks))


def read_ends(opened: OpenFile, path: str, shape: tuple[int, ...] | None) -> NDArray[np.int64]:
    """Give where each variable-length sequence ends when all are put one after another, in C order."""
    if shape is None:
        return np.zeros(0, np.int64)
    lengths = [
        np.fromiter(map(len, opened.read(path, region).reshape(-1).tolist()), np.int64)
        for region in cut_rows(shape, LENGTHS_AT_ONCE)
    ]
    return np.cumsum(np.concatenate(lengths)) if lengths else np.zeros(0, np.int64)


def cut_rows(shape: tuple[int, ...], count: int) -> Iterator[tuple[slice, ...]]:
    """Give regions of whole rows, about ``count`` elements each, in C order.

    >>> list(cut_rows((5,), 4))
    [(slice(0, 4, None),), (slice(4, 5, None),)]
    """
    if not shape:
        yield ()
        return
    rest = tuple(slice(0, length) for length in shape[1:])
    step = max(count // max(prod(shape[1:]), 1), 1)
    for start in range(0, shape[0] if prod(shape[1:]) else 0, step):
        yield slice(start, min(start + step, shape[0])), *rest
