"""Read the metadata of one dataset that a conversion needs before it is planned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from h5bound.chunk_grid import ChunkGrid
from h5bound.errors import H5BoundError, SourceNotFoundError, UnsafeSourceError, UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.chunk_index import ChunkManifest, index_chunks
from h5bound.hdf5.datatypes import check_references, read_type
from h5bound.hdf5.external_check import check_external_files
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS
from h5bound.hdf5.type_json import text_to_json
from h5bound.planning.declared_sizes import check_compound_size, check_declared_size
from h5bound.planning.scan_fill import read_boxes, read_fill
from h5bound.planning.scan_forms import note_forms
from h5bound.planning.scan_parts import PartScan, scan_parts
from h5bound.planning.scan_text import find_bytes, list_stored
from h5bound.zarr_model.array_spec import check_filters_installed, translate_filters
from h5bound.zarr_model.dtypes import ZarrType, translate_type
from h5bound.zarr_model.fill_values import FillValue
from h5bound.zarr_model.parts import needs_parts, plan_parts
from h5bound.zarr_model.structured import StructError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h5py import h5t
    from numpy.typing import NDArray

    from h5bound.chunk_grid import Shape
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.hdf5.dimension_scales import Dimensions
    from h5bound.planning.pieces import Pieces
    from h5bound.planning.scan_context import ScanContext
    from h5bound.zarr_model.array_spec import CodecChain
    from h5bound.zarr_model.parts import Part


ZERO = FillValue(np.zeros((), "u1"), 0, exact=True)
"""The fill value of a group, which is not used."""


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
    offset: int | None = None
    """Where its values begin in the file if they are in one piece, and stored; else None."""
    fill: FillValue
    attributes: Mapping[str, Any]
    """Attributes in the store."""
    dimensions: Dimensions | None = None
    """Its dimension scales."""
    dimension_names: tuple[str, ...] | None = None
    """Names of the axes; None until all datasets are read."""
    parts: tuple[PartScan, ...] = ()
    """The arrays that it becomes in place of one."""
    part: Part | None = None
    """Of a scan of one of them: which it is."""
    boxes: NDArray[np.int64] | None = None
    """Of a virtual dataset: start and stop of each part; elements outside of all have the fill value."""
    pieces: Pieces | None = None
    """Of a dataset that is joined from several files: where its elements are."""

    @property
    def rows(self) -> Shape:
        """Shape of the dataset; (0,) for a null dataspace."""
        return (0,) if self.record.shape is None else self.record.shape

    @property
    def shape(self) -> Shape:
        """Shape of the array: that of the dataset, with the axes of an HDF5 array type at the end."""
        return self.rows + self.type.element_shape

    @property
    def groups(self) -> list[str]:
        """Paths in the store of the groups that it becomes; none if it is an array."""
        names = [f"{self.target}/{item.part.target}" for item in self.parts]
        above = (name[:i] for name in names for i in range(len(self.target), len(name)) if name[i] == "/")
        return list(dict.fromkeys(above))

    @property
    def chunks(self) -> Shape | None:
        """Shape of the chunks of the array; None unless the dataset is chunked."""
        return None if self.record.chunks is None else self.record.chunks + self.type.element_shape


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
    if record.layout == "virtual":
        record = replace(record, shape=dataset.shape)
    manifest = read_manifest(dataset, record) if record.layout == "chunked" else None
    boxes = read_boxes(dataset, record)
    tid = read_type(dataset.id)
    types, stored = translate(context, dataset, record, tid=tid), list_stored(record, manifest, boxes)
    zarr_type, parts = find_bytes(context, dataset, record.path, types=types, regions=stored)
    attributes = context.read_attributes(dataset, dtype=zarr_type.dtype)
    options: dict[str, Any] = {"attributes": attributes, "manifest": manifest}
    fill = ZERO if parts else read_fill(context, dataset, record, zarr_type=zarr_type, **options)
    copy_chain, no_copy_reason = translate_filters(record, zarr_format)
    if manifest is not None:
        check_filters_installed(record, manifest)
    elif record.layout == "chunked":
        copy_chain, no_copy_reason = None, "HDF5 does not say reliably where its chunks are"
    note_forms(context, record, tid, zarr_type=zarr_type, parts=parts)
    context.log.add_attributes(record.path, attributes)
    context.log.add_details(record.path, describe_form(context, record, zarr_type))
    if attributes.dimensions is None or not attributes.dimensions.bare:
        note_name(context, record.path)
    return DatasetScan(
        record=record,
        type=zarr_type,
        target=context.targets[record.path],
        origin=context.number,
        copy_chain=copy_chain,
        no_copy_reason=no_copy_reason,
        manifest=manifest,
        offset=dataset.id.get_offset() if record.layout == "contiguous" and record.stored_nbytes else None,
        fill=fill,
        attributes={**context.choose_conventions(zarr_type), **attributes.values},
        dimensions=attributes.dimensions,
        parts=scan_parts(context, dataset, record, parts=parts, **options),
        boxes=boxes,
    )


def translate(
    context: ScanContext, dataset: h5py.Dataset, record: DatasetRecord, *, tid: h5t.TypeID
) -> tuple[ZarrType, tuple[Part, ...]]:
    """Return the type of a dataset, and the arrays that it becomes in place of one, if it does.

    A compound whose text no struct can hold becomes columns. Raise UnsupportedError if there is no exact form.
    """
    compounds, zarr_format = context.settings.compounds, context.settings.zarr_format
    check_references(tid)
    is_struct = not needs_parts(tid, compounds, zarr_format=zarr_format)
    if is_struct:
        try:
            zarr_type = translate_type(dataset, zarr_format=zarr_format, resolve=context.resolve)
            check_compound_size(record, zarr_type)
        except StructError:
            compounds = "columns"
        else:
            return zarr_type, ()
    return plan_parts(tid, compounds, zarr_format=zarr_format, name_nodes=context.name_nodes)


def describe_form(context: ScanContext, record: DatasetRecord, zarr_type: ZarrType) -> dict[str, Any]:
    """Return the details of a dataset's name, dataspace and type."""
    details = {**original_name(record.path, context.targets[record.path]), **zarr_type.details}
    if record.shape is None:
        details["dataspace"] = "null"
    if zarr_type.form == "group":
        shape = (0,) if record.shape is None else record.shape
        details["columns" if zarr_type.dtype.names else "sequences"] = {"shape": list(shape)}
    return details


def note_name(context: ScanContext, path: str) -> None:
    """Note that a group or dataset has another name in the store, or is a copy in place of a link."""
    target = context.targets[path]
    link = context.origin.hierarchy.copied.get(path)
    if link is not None:
        context.log.note(path, "a copy in place of the link", "copy", to=link.target or link.to)
        context.log.add_details(path, {"link": {"kind": link.kind, "path": text_to_json(link.to)}})
    name = path.rpartition("/")[2]
    if name != target.rpartition("/")[2]:
        context.log.note(path, context.describe_renaming(name), "renamed", to=target)


def original_name(path: str, target: str) -> dict[str, Any]:
    """Return the detail of a node whose name differs in the store; nothing for others."""
    name = path.rpartition("/")[2]
    return {} if name == target.rpartition("/")[2] else {"name": text_to_json(name)}


def read_manifest(dataset: h5py.Dataset, record: DatasetRecord) -> ChunkManifest | None:
    """Return the stored chunks of a dataset, in C order of the grid; None if HDF5 returns a wrong index."""
    shape, chunks = record.shape or (), record.chunks or ()
    if not record.stored_chunks:
        nothing = np.zeros(0, np.int64)
        return ChunkManifest(
            chunk_coords=np.zeros((0, len(shape)), np.int64), offsets=nothing, nbytes=nothing, masks=nothing
        )
    return index_chunks(dataset.id, ChunkGrid(shape, chunks))
