"""Read the metadata of one dataset that a conversion needs before it is planned."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from h5bound.hdf5.element_types import name_bytes
from h5bound.hdf5.external_check import check_external_files
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS
from h5bound.hdf5.links import open_object
from h5bound.hdf5.virtual_mappings import list_boxes
from h5bound.planning.declared_sizes import check_compound_size, check_declared_size
from h5bound.reports.text import format_nbytes
from h5bound.zarr_model.array_spec import check_filters_installed, estimate_itemsize, translate_filters
from h5bound.zarr_model.attributes import read_attributes
from h5bound.zarr_model.dtypes import ZarrType, translate_type
from h5bound.zarr_model.fill_values import choose_fill_v2, read_fill_value
from h5bound.zarr_model.hdmf import describe_for_hdmf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from h5bound.chunk_grid import Shape
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.hdf5.dimension_scales import Dimensions
    from h5bound.hdf5.references import ReferencePaths
    from h5bound.planning.external_links import Origin
    from h5bound.planning.options import Settings
    from h5bound.planning.scan_log import ScanLog
    from h5bound.reader.open_file import OpenFile
    from h5bound.reports.forms import Kind
    from h5bound.zarr_model.array_spec import CodecChain
    from h5bound.zarr_model.attributes import AttributesRecord
    from h5bound.zarr_model.fill_values import FillValue


FORM_NOTES: Mapping[str, tuple[str, Kind]] = {
    "vlen": ("as a group with the arrays values and offsets", "sequences"),
    "object_reference": ("as text, paths of their targets", "references"),
    "region_reference": ("as JSON text, with the paths of their targets and what they select there", "references"),
}
"""What looks different in the store, by the form of the values."""

LENGTHS_AT_ONCE = 65_536
"""Variable-length sequences whose lengths are read at once."""

MAX_HOLES = 10_000
"""Chunks never written that are always written in format 2."""

MAX_HOLES_NBYTES = 1 << 24
"""Bytes of chunks never written that are always written in format 2, where xarray would mask their value."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DatasetScan:
    """The metadata of one dataset."""

    record: DatasetRecord
    type: ZarrType
    target: str
    """Path in the store."""
    origin: int = 0
    """Number of its file among the origins of the scan."""
    copy_chain: CodecChain | None
    """Codecs to copy chunks with: they read the encoded bytes; None if Zarr has none."""
    no_copy_reason: str
    """Why Zarr has none."""
    manifest: ChunkManifest | None
    """Stored chunks; None unless the dataset is chunked."""
    fill: FillValue
    attributes: Mapping[str, Any]
    """Attributes in the store."""
    dimensions: Dimensions | None = None
    """Its dimension scales."""
    dimension_names: tuple[str, ...] | None = None
    """Names of the axes; None until all datasets are read."""
    sequence_ends: NDArray[np.int64] | None = None
    """Of sequences: where each one ends in `values`, in C order of the dataset."""
    boxes: NDArray[np.int64] | None = None
    """Of a virtual dataset: start and stop of each part; elements outside of all have the fill value."""

    @property
    def shape(self) -> Shape:
        """Shape of the array: (0,) for a null dataspace, with the axes of an HDF5 array type at the end."""
        return ((0,) if self.record.shape is None else self.record.shape) + self.type.element_shape

    @property
    def chunks(self) -> Shape | None:
        """Shape of the chunks of the array; None unless the dataset is chunked."""
        return None if self.record.chunks is None else self.record.chunks + self.type.element_shape


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ScanContext:
    """The context in which the objects of one origin are scanned."""

    opened: OpenFile
    origin: Origin
    number: int
    """Number of the origin."""
    settings: Settings
    allowed: tuple[Path, ...]
    """Real paths of directories whose files may be opened."""
    targets: Mapping[str, str]
    """Path in the store by path in the report."""
    resolve: ReferencePaths
    log: ScanLog
    hdmf: bool
    """Whether HDMF reads the store."""

    def open(self, path: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
        """Return the object at a path of the report."""
        return open_object(self.opened.file, self.origin.locate(path))

    def read_attributes(self, source: h5py.Group | h5py.Dataset | h5py.Datatype, **options: Any) -> AttributesRecord:
        """Read the attributes of an object."""
        options |= {"zarr_format": self.settings.zarr_format, "nan": self.settings.nan}
        return read_attributes(source, netcdf=self.origin.netcdf, resolve=self.resolve, **options)


def try_scan_dataset(context: ScanContext, record: DatasetRecord) -> DatasetScan | None:
    """Scan a dataset. Return None if it cannot be converted; the log says why."""
    path, log = record.path, context.log
    if record.problem is not None:
        log.skip(path, record.problem)
        return None
    try:
        if record.layout in EXTERNAL_LAYOUTS:
            dataset = context.open(path)
            states = check_external_files(context.opened.file, dataset.id, context.allowed)
            log.external_states = states | log.external_states  # the first state of each file stays
        return scan_dataset(context, record)
    except (UnsafeSourceError, SourceNotFoundError) as error:
        log.skip(path, str(error), unsafe=True)
    except UnsupportedError as error:
        log.skip(path, str(error))
    except (H5BoundError, *READ_ERRORS) as error:
        log.skip(path, f"h5py cannot read it: {describe(error)}")
    return None


def scan_dataset(context: ScanContext, record: DatasetRecord) -> DatasetScan:
    """Scan a dataset. Raise UnsupportedError if Zarr has no exact form for it."""
    zarr_format = context.settings.zarr_format
    dataset = context.open(record.path)
    assert isinstance(dataset, h5py.Dataset)
    check_declared_size(record)
    zarr_type = translate_type(dataset, zarr_format=zarr_format, resolve=context.resolve)
    check_compound_size(record, zarr_type)
    if record.layout == "virtual":
        record = replace(record, shape=dataset.shape)
    attributes = context.read_attributes(dataset, dtype=zarr_type.dtype)
    manifest = read_manifest(dataset, record) if record.layout == "chunked" else None
    fill = read_fill_value(dataset, zarr_type, zarr_format=zarr_format, resolve=context.resolve)
    if zarr_format == 2:
        fill = choose_fill(context, record, zarr_type=zarr_type, manifest=manifest, fill=fill, attributes=attributes)
    copy_chain, no_copy_reason = translate_filters(record, zarr_format)
    inside = context.origin.locate(record.path)
    ends = read_ends(context.opened, inside, record.shape) if zarr_type.form == "vlen" else None
    if manifest is not None:
        check_filters_installed(record, manifest)
    elif record.layout == "chunked":
        copy_chain, no_copy_reason = None, "HDF5 does not say reliably where its chunks are"
    if unnamed := name_bytes(dataset.id.get_type()):
        context.log.note(record.path, f"{' and '.join(unnamed)} as bytes; their type is in h5bound.json", "bytes")
    if zarr_type.form in FORM_NOTES:
        context.log.note(record.path, *FORM_NOTES[zarr_type.form])
    context.log.add_attributes(record.path, attributes)
    context.log.add_details(record.path, describe_form(context, record, zarr_type))
    return DatasetScan(
        record=record,
        type=zarr_type,
        target=context.targets[record.path],
        origin=context.number,
        copy_chain=copy_chain,
        no_copy_reason=no_copy_reason,
        manifest=manifest,
        fill=fill,
        attributes={**choose_conventions(context, zarr_type), **attributes.values},
        dimensions=attributes.dimensions,
        sequence_ends=ends,
        boxes=read_boxes(dataset, record),
    )


def choose_fill(
    context: ScanContext,
    record: DatasetRecord,
    *,
    zarr_type: ZarrType,
    manifest: ChunkManifest | None,
    fill: FillValue,
    attributes: AttributesRecord,
) -> FillValue:
    """Return the fill value in format 2, where xarray masks all that equals it; note where it will mask data.

    Without a ``_FillValue`` in the source there is none if the chunks never written can be written.
    """
    chunks, elements = count_unwritten(record, manifest)
    nbytes = elements * prod(zarr_type.element_shape) * estimate_itemsize(zarr_type.dtype)
    few = chunks <= max(MAX_HOLES, record.stored_chunks) and nbytes <= max(MAX_HOLES_NBYTES, record.stored_nbytes)
    if attributes.fill is not None or few:
        return choose_fill_v2(fill, attributes.fill)
    bare = attributes.dimensions is not None and attributes.dimensions.bare
    if fill.exact and not bare and zarr_type.form != "vlen" and fill.json != "NaN":
        xarray = "cannot open it" if zarr_type.dtype.names else f"masks every element that equals {fill.json!r}"
        text = f"{format_nbytes(nbytes)} were never written: in format 2 xarray {xarray} unless it is told"
        context.log.note(record.path, f"{text} mask_and_scale=False; format 3 has no such rule")
    return fill


def count_unwritten(record: DatasetRecord, manifest: ChunkManifest | None) -> tuple[int, int]:
    """Return how many chunks were never written, and their elements; 0 chunks unless the dataset is chunked.

    Of a virtual dataset this is all: any part may be without a source.
    """
    shape, stored = record.shape or (), record.stored_nbytes
    if manifest is None or record.chunks is None:
        return 0, 0 if stored or record.shape is None else prod(shape)
    chunks = prod(count_chunks(shape, record.chunks)) - len(manifest.chunk_coords)
    return chunks, chunks * prod(record.chunks)


def choose_conventions(context: ScanContext, zarr_type: ZarrType) -> dict[str, Any]:
    """Return attributes of conventions to add; no flags in a file of netCDF: its readers show what is in it."""
    flags = {} if context.origin.netcdf and "enum" in zarr_type.details else zarr_type.attributes
    return {**flags, **(describe_for_hdmf(zarr_type) if context.hdmf else {})}


def describe_form(context: ScanContext, record: DatasetRecord, zarr_type: ZarrType) -> dict[str, Any]:
    """Return the details of a dataset's name, dataspace and type."""
    details = {**original_name(record.path, context.targets[record.path]), **zarr_type.details}
    if record.shape is None:
        details["dataspace"] = "null"
    elif zarr_type.form == "vlen":
        details["sequences"] = {"shape": list(record.shape)}
    note_name(context, record.path)
    return details


def note_name(context: ScanContext, path: str) -> None:
    """Note that a group or dataset has another name in the store, or is a copy in place of a link."""
    target = context.targets[path]
    link = context.origin.hierarchy.copied.get(path)
    if link is not None:
        context.log.note(path, "a copy in place of the link", "copy", to=link.target or link.to)
        context.log.add_details(path, {"link": {"kind": link.kind, "path": text_to_json(link.to)}})
    if path.rpartition("/")[2] != target.rpartition("/")[2]:
        portable = context.settings.names == "portable"
        reason = "a portable name" if portable else "Zarr or the target cannot hold the name"
        context.log.note(path, reason, "renamed", to=target)


def original_name(path: str, target: str) -> dict[str, Any]:
    """Return the detail of a node whose name differs in the store; nothing for others."""
    name = path.rpartition("/")[2]
    return {} if name == target.rpartition("/")[2] else {"name": text_to_json(name)}


def read_boxes(dataset: h5py.Dataset, record: DatasetRecord) -> NDArray[np.int64] | None:
    """Return the boxes of the parts of a virtual dataset; None for another, or if no fill value is defined."""
    plist = dataset.id.get_create_plist()
    if record.layout != "virtual" or not record.shape or plist.fill_value_defined() == h5d.FILL_VALUE_UNDEFINED:
        return None
    return list_boxes(plist, record.shape)


def read_manifest(dataset: h5py.Dataset, record: DatasetRecord) -> ChunkManifest | None:
    """Return the stored chunks of a dataset, in C order of the grid; None if HDF5 returns a wrong index."""
    shape, chunks = record.shape or (), record.chunks or ()
    if not record.stored_chunks:
        nothing = np.zeros(0, np.int64)
        return ChunkManifest(
            chunk_coords=np.zeros((0, len(shape)), np.int64), offsets=nothing, nbytes=nothing, masks=nothing
        )
    return index_chunks(dataset.id, ChunkGrid(shape, chunks))


def read_ends(opened: OpenFile, path: str, shape: tuple[int, ...] | None) -> NDArray[np.int64]:
    """Return where each variable-length sequence ends if all are concatenated in C order."""
    if shape is None:
        return np.zeros(0, np.int64)
    lengths = [
        np.fromiter(map(len, opened.read(path, region).reshape(-1).tolist()), np.int64)
        for region in cut_rows(shape, LENGTHS_AT_ONCE)
    ]
    return np.cumsum(np.concatenate(lengths)) if lengths else np.zeros(0, np.int64)


def cut_rows(shape: tuple[int, ...], count: int) -> Iterator[tuple[slice, ...]]:
    """Yield regions of whole rows in C order, of about `count` elements each.

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
