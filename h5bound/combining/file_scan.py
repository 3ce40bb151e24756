"""What one of many files holds, as records that can be compared, kept and sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from h5py import h5d, h5s, h5z

from h5bound.buffers import hash_bits
from h5bound.errors import H5BoundError
from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.datatypes import read_type
from h5bound.hdf5.element_types import memory_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from h5bound.chunk_grid import Shape
    from h5bound.codecs.pipeline import Filter
    from h5bound.files.file_state import FileState
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.reader.open_file import OpenFile
    from h5bound.reports.entries import Link, ReportNote, Skipped
    from h5bound.zarr_model.byte_layout import Array

MAX_COORDINATE = 1 << 16
"""Most elements of a coordinate whose values are kept."""

MAX_DIGESTED = 1 << 20
"""Most bytes of the values of a variable that are read to compare it with those of other files."""

ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))

DIRECT_LAYOUTS = ("chunked", "contiguous", "compact")

TYPE_DETAILS = ("type", "enum", "element_shape", "dataspace")
"""Details of a dataset that say what its Zarr type does not say of its HDF5 type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableSchema:
    """What variables of one path have in common if their files can be joined without a change."""

    form: str
    """``plain``, ``string``, ``bytes``, ``object_reference`` or ``region_reference``: one array; ``sequences`` or
    ``columns``: several."""
    dtype: str
    """Type of one element in the store, as numpy writes it: ``<f4``; ``string`` and ``bytes`` of variable length."""
    hdf5_type: str
    """JSON text of what `dtype` does not say of the type in HDF5; ``{}`` if it says all."""
    dimensions: tuple[str, ...]
    """Names of the axes."""
    layout: str
    """chunked, contiguous, compact, virtual or external."""
    chunks: Shape | None
    """Shape of a chunk of the array; None unless chunked."""
    filters: tuple[Filter, ...]
    """Filters in the order in which they were applied on writing."""
    fill: str
    """JSON text of the value of elements that were never written, and whether readers of Zarr see exactly its bits."""
    short: tuple[str, ...] = ()
    """Names of unlimited dimensions that it is shorter than, which netCDF's readers fill up."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class VariableScan:
    """One dataset of one file."""

    target: str
    """Path in the store."""
    schema: VariableSchema
    shape: Shape
    """Shape of the array."""
    attributes: Mapping[str, Any]
    """Attributes in the store."""
    manifest: ChunkManifest | None
    """Stored chunks; None unless the dataset is chunked, and HDF5 says where they are."""
    offset: int | None
    """Where the values are in the file if they are in one piece; None if they are not, or nothing is stored."""
    stored_nbytes: int
    """Encoded bytes of the values in the file."""
    edge_unfiltered: bool | None
    """Whether chunks that extend past the shape are stored unfiltered, None if unknown."""
    values: NDArray[Any] | None
    """Values of a coordinate (one dimension, and its name), or of a scalar, if they are numbers, and not too many."""
    digest: bytes | None
    """Digest of all values; None if there are too many, if they are not of fixed size, or along `dim`."""

    def find_axis(self, dim: str | None) -> int | None:
        """Return the axis of a dimension; None if the variable does not have it."""
        names = self.schema.dimensions
        return names.index(dim) if dim in names else None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FileScan:
    """One file."""

    path: str
    """Path or URL, as it is opened."""
    state: FileState | None
    """State of the file when it was scanned; None for one that has no path, or is not read."""
    groups: Mapping[str, Mapping[str, Any]]
    """Attributes in the store of each group, by its path in the file."""
    variables: Mapping[str, VariableScan]
    """Datasets by their paths in the file."""
    details: Mapping[str, Mapping[str, Any]]
    """What the nodes of the store do not say of the source, by path in the file."""
    skipped: tuple[Skipped, ...]
    notes: tuple[ReportNote, ...]
    links: tuple[Link, ...]
    external_states: Mapping[str, FileState]
    """States of the other files that hold values of this one, by their real paths."""
    elsewhere: frozenset[str]
    """Paths of the datasets and groups that an external link leads to."""
    number_in_store: int | None = None
    """Its number in the store that files are added to, which stands for it; None for a file that is read."""
    entry_in_store: Mapping[str, Any] | None = None
    """Its entry in the provenance of that store."""

    @property
    def in_store(self) -> bool:
        """Whether it is not read."""
        return self.number_in_store is not None


def describe_file(scan: SourceScan, opened: OpenFile, *, dim: str | None) -> FileScan:
    """Return the record of an open file from its scan; coordinates and small variables without `dim` are read."""
    source = scan.origins[0].source
    others = {origin.source.path: origin.source.state for origin in scan.origins[1:]}
    nodes = [(group.path, group.origin) for group in scan.groups]
    nodes += [(item.record.path, item.origin) for item in scan.datasets]
    return FileScan(
        path=source.path,
        state=source.state,
        groups={group.path: group.attributes for group in scan.groups},
        variables={item.record.path: describe_variable(item, scan, opened, dim=dim) for item in scan.datasets},
        details=scan.details,
        skipped=scan.skipped,
        notes=scan.notes,
        links=scan.links,
        external_states={
            **scan.external_states,
            **{name: state for name, state in others.items() if state is not None},
        },
        elsewhere=frozenset(name for name, origin in nodes if origin),
    )


def describe_variable(item: DatasetScan, scan: SourceScan, opened: OpenFile, *, dim: str | None) -> VariableScan:
    """Return the record of one dataset."""
    schema = describe_schema(item, scan.details.get(item.record.path, {}))
    values, digest = (None, None) if item.origin else read_small(item, schema, opened, dim=dim)
    return VariableScan(
        target=item.target,
        schema=schema,
        shape=item.shape,
        attributes=item.attributes,
        manifest=item.manifest,
        offset=item.offset,
        stored_nbytes=item.record.stored_nbytes,
        edge_unfiltered=item.record.edge_unfiltered,
        values=values,
        digest=digest,
    )


def describe_schema(item: DatasetScan, details: Mapping[str, Any]) -> VariableSchema:
    """Return what a dataset needs to have in common with those of other files."""
    form, dtype = item.type.form, item.type.dtype
    shown: dict[str, Any] = {name: details[name] for name in TYPE_DETAILS if name in details}
    if item.parts:
        shown["parts"] = [[part.part.target, str(part.part.type.dtype), part.part.type.details] for part in item.parts]
    return VariableSchema(
        form=("columns" if dtype.names else "sequences") if item.parts else form,
        dtype={"T": "string", "O": "bytes"}.get(dtype.kind) or name_dtype(dtype),
        hdf5_type=write_json(shown),
        dimensions=item.dimension_names or (),
        layout=item.record.layout,
        chunks=item.chunks,
        filters=item.record.filters,
        fill=write_json([item.fill.json, item.fill.exact]),
        short=list_short(item),
    )


def list_short(item: DatasetScan) -> tuple[str, ...]:
    """Return the dimensions that a dataset is shorter than: its own axes are called ``name_LENGTH``."""
    own = () if item.dimensions is None else item.dimensions.names
    axes = zip(own, item.dimension_names or (), item.shape, strict=False)
    return tuple(name for name, final, size in axes if name and final.startswith(f"{name}_{size}"))


def name_dtype(dtype: np.dtype[Any]) -> str:
    """Return a type as numpy writes it, with the fields of a compound."""
    return str(dtype) if dtype.names else dtype.str


def read_small(
    item: DatasetScan, schema: VariableSchema, opened: OpenFile, *, dim: str | None
) -> tuple[NDArray[Any] | None, bytes | None]:
    """Return the values of a coordinate, and the digest of a variable without `dim`; None for what is not read."""
    name = item.record.path.rpartition("/")[2]
    is_number = schema.form == "plain" and item.type.dtype.kind in "iuf"
    is_coordinate = is_number and (schema.dimensions == (name,) or not item.shape)
    count = prod(item.shape)
    keeps = is_coordinate and count <= MAX_COORDINATE
    has_digest = schema.form == "plain" and item.record.shape is not None and dim not in schema.dimensions
    has_digest = has_digest and count * item.type.dtype.itemsize <= MAX_DIGESTED
    if not (keeps or has_digest):
        return None, None
    try:
        block = item.type.convert(read_block(item, opened))
    except (H5BoundError, *READ_ERRORS):  # whoever needs the values reads them again, and says why it cannot
        return None, None
    digest = hash_bits(block) + repr((block.shape, str(block.dtype))).encode()
    return block if keeps else None, digest if has_digest else None


def read_block(item: DatasetScan, opened: OpenFile) -> Array:
    """Return all values of a dataset; small ones through HDF5, since a reader takes longer to make than they take."""
    path, record = item.record.path, item.record
    whole = tuple(slice(0, extent) for extent in item.rows)
    nbytes = prod(record.chunks or item.rows) * item.type.dtype.itemsize
    is_plain = item.type.dtype == item.type.source and item.type.dtype.kind in "iuf" and not item.type.element_shape
    if not is_plain or record.layout not in DIRECT_LAYOUTS or nbytes > MAX_DIGESTED:
        return opened.read(path, whole)
    if any(entry.id not in (h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE) for entry in record.filters):
        return opened.read(path, whole)
    block = np.empty(item.rows, item.type.source)
    dataset = opened.open_object(path).id
    assert isinstance(dataset, h5d.DatasetID)
    dataset.read(h5s.ALL, h5s.ALL, block, memory_type(read_type(dataset)))
    return block


def write_json(value: Any) -> str:
    """Return the JSON text that is equal for equal values, also of NaN, and different for 1, 1.0 and true."""
    return ENCODER.encode(value)
