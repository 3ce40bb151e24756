"""The groups of an open file for xarray to decode: variables whose values are read once the file was closed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import xarray as xr
from h5py import h5ds, h5t
from xarray.backends import H5NetCDFStore

from h5bound.errors import UnsupportedError
from h5bound.hdf5.byte_order import restore_byte_order
from h5bound.hdf5.dimension_scales import NOT_A_COORDINATE, NOT_A_VARIABLE
from h5bound.hdf5.raw_objects import is_read_raw
from h5bound.hdf5.type_names import describe_type
from h5bound.reader.open_file import DatasetKey
from h5bound.reader.via_h5py import dtype_of, name_of
from h5bound.xarray_backend.backend_array import VariableArray, VariableSpec, index_lazily

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import h5netcdf

    from h5bound.reader.source import H5Source


@dataclass(frozen=True, slots=True)
class VariableOptions:
    """The options that the variables of one file share."""

    source: H5Source
    name: str  # of the file in ``encoding["source"]``
    allowed: tuple[Path, ...]  # real paths of directories whose files may be read
    decode_vlen_strings: bool


class Store(H5NetCDFStore):
    """A group of an open file for xarray to decode; its variables do not need the file to stay open."""

    __slots__ = ("_file", "options")

    def __init__(self, root: h5netcdf.File, file: h5py.File, options: VariableOptions, group: PurePosixPath) -> None:
        super().__init__(root, group=str(group), mode="r")
        self._filename = options.name
        self._file = file
        self.options = options

    def open_store_variable(self, name: str, var: h5netcdf.Variable) -> xr.Variable:
        """Return a variable whose values are read later."""
        path = self._dataset_path(name)
        dataset = self._file[path]
        dtype = dtype_of(dataset)
        own = is_read_raw(dataset.id.get_type())  # h5netcdf has no such type
        if own and dtype.subdtype is not None:
            raise UnsupportedError(f"{name_of(dataset)}: the engine has no array types of {describe_type(dtype.base)}")
        variable: xr.Variable = _make_variable(dataset, var, dtype) if own else super().open_store_variable(name, var)  # type: ignore[no-untyped-call]
        variable.attrs = restore_attributes(dataset, variable.attrs)
        spec = VariableSpec(
            group=str(self._group),
            name=name,
            key=DatasetKey(
                path=path,
                shape=dataset.shape,
                dtype=str(dtype),
                allowed=self.options.allowed if dataset.is_virtual or dataset.external else None,
            ),
            plain=own or (dataset.shape == variable.shape and not (dtype.hasobject or dtype.names or dtype.subdtype)),
            decode_vlen_strings=self.options.decode_vlen_strings,
        )
        shown = dtype if dtype.names else variable.dtype
        values = VariableArray(self.options.source, spec, shape=variable.shape, dtype=shown)
        return xr.Variable(variable.dims, index_lazily(values), variable.attrs, variable.encoding)

    def get_attrs(self) -> Mapping[str, Any]:
        """Return the attributes of the group."""
        attributes: Mapping[str, Any] = super().get_attrs()  # type: ignore[no-untyped-call]
        return restore_attributes(self._file[str(self._group)], attributes)

    def list_sequences(self) -> list[h5py.Dataset]:
        """Return the variables of sequences of variable length."""
        datasets = (self._file[self._dataset_path(name)] for name in self.ds.variables)
        return [dataset for dataset in datasets if dataset.id.get_type().get_class() == h5t.VLEN]

    def _dataset_path(self, name: str) -> str:
        """Return the path of a variable's dataset, which netCDF renames if a dimension without values has its name."""
        parent = str(self._group).rstrip("/")
        renamed = f"{parent}/{NOT_A_COORDINATE}{name}"
        if renamed in self._file and (
            name not in self._file[parent or "/"] or _is_bare(self._file[f"{parent}/{name}"])
        ):
            return renamed
        return f"{parent}/{name}"


def refuse_sequences(sequences: Sequence[h5py.Dataset]) -> UnsupportedError:
    """Return the error for sequences, whose first one xarray takes for a time: it opens those of one element alone."""
    names = [PurePosixPath(dataset.name).name for dataset in sequences]
    return UnsupportedError(
        f"{name_of(sequences[0])}: xarray cannot open sequences of variable length; leave them out with "
        f"drop_variables={names!r}, and read them with h5bound.from_hdf5"
    )


def _make_variable(dataset: h5py.Dataset, var: h5netcdf.Variable, dtype: np.dtype[Any]) -> xr.Variable:
    """Return a variable of a type that h5netcdf does not have; its values are not read."""
    encoding = {"chunksizes": var.chunks, "preferred_chunks": dict(zip(var.dimensions, var.chunks or (), strict=False))}
    values = np.broadcast_to(np.zeros((), dtype), dataset.shape)
    return xr.Variable(var.dimensions, values, dict(var.attrs), encoding)


def restore_attributes(item: h5py.Group | h5py.Dataset, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes that h5netcdf read, with the byte order of the file in sequences."""
    restored = dict(attributes)
    for name, value in attributes.items():
        if isinstance(value, (np.ndarray, np.generic)) and (dtype := item.attrs.get_id(name).dtype).hasobject:
            restored[name] = restore_byte_order(value, dtype)[() if isinstance(value, np.generic) else ...]
    return restored


def _is_bare(dataset: h5py.Dataset) -> bool:
    """Return whether a dataset is a netCDF dimension without a variable."""
    return h5ds.is_scale(dataset.id) and bytes(h5ds.get_scale_name(dataset.id)).startswith(NOT_A_VARIABLE)
