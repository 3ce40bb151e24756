"""The xarray engine ``h5bound``: netCDF-4 and other HDF5 files whose variables open and close the file themselves.

A Dataset is what ``engine="h5netcdf"`` gives: h5netcdf and xarray's store for it read the metadata, and xarray decodes.
Only the values come another way (:mod:`h5bound.xarray_backend.backend_array`), and no file stays open. xarray finds the
engine by its entry point; nothing else imports this module, nor xarray.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import h5py
import xarray as xr
from h5py import h5ds
from xarray.backends import BackendEntrypoint, H5NetCDFStore, StoreBackendEntrypoint
from xarray.core.indexing import LazilyIndexedArray

from h5bound.errors import UnsupportedError
from h5bound.files.urls import is_url, strip_local
from h5bound.hdf5.dimension_scales import NOT_A_COORDINATE, NOT_A_VARIABLE
from h5bound.hdf5.external_check import check_whole_file, may_have_external_files
from h5bound.hdf5.external_files import resolve_directories
from h5bound.lifecycle.handle import Handle
from h5bound.reader.open_file import DatasetKey
from h5bound.reader.source import H5Source
from h5bound.xarray_backend.backend_array import ONLY_WINDOW, VariableArray, VariableSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import h5netcdf

    from h5bound.reader.open_file import OpenFile


SMALL_INDEX = 1 << 20
"""Bytes of a dimension's coordinate, up to which it is read along with the metadata: xarray makes an index of it."""


class Engine(BackendEntrypoint):
    """What ``engine="h5bound"`` stands for.

    No file is open when `xarray.open_dataset` returns, and ``close`` does nothing. The file is opened when values are
    read, and closed after it: for each variable that is loaded, or with ``chunks=`` once for each compute. ScanContext
    raises `SourceChangedError` if it is no longer the file that it was.

    Examples
    --------
    >>> import h5netcdf, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.nc"
    >>> with h5netcdf.File(path, "w") as file:
    ...     file.dimensions = {"x": 3}
    ...     file.create_variable("t", ("x",), data=[1.0, 2.0, 3.0]).attrs["units"] = "K"
    >>> dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    >>> float(dataset.t.sum())
    6.0
    """

    description: ClassVar[str] = "Open netCDF-4 and HDF5 files that are open only while values are read"
    supports_groups: ClassVar[bool] = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Tell xarray to take this engine by its name only: netcdf4 and h5netcdf open the same files."""
        return False

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        mask_and_scale: Any = True,
        decode_times: Any = True,
        concat_characters: Any = True,
        decode_coords: Any = True,
        use_cftime: Any = None,
        decode_timedelta: Any = None,
        group: str | None = None,
        phony_dims: Literal["access", "sort"] = "access",
        decode_vlen_strings: bool = True,
        storage_options: Mapping[str, Any] | None = None,
        allow_external: Sequence[str | os.PathLike[str]] = (),
    ) -> xr.Dataset:
        """Give one group of a file.

        Parameters
        ----------
        filename_or_obj
            A path, a URL that fsspec knows, or an `h5py.File`, which is used and left open.
        drop_variables, mask_and_scale, decode_times, concat_characters, decode_coords, use_cftime, decode_timedelta
            As `xarray.open_dataset` takes them.
        group
            The path of the group, the root by default.
        phony_dims, decode_vlen_strings
            As ``engine="h5netcdf"`` takes them.
        storage_options
            What fsspec is to be told for a URL: credentials, endpoints.
        allow_external
            Directories from which files may be read that external storage and virtual datasets name.

        Raises
        ------
        UnsafeSourceError
            It has an external link, which h5netcdf would follow, or a dataset draws on a file that is not allowed.
        SourceNotFoundError, H5BoundError
            The file is not there, or cannot be opened.
        UnsupportedError
            It is neither of these.
        OSError
            It has no such group.
        """
        decoders = {
            "drop_variables": drop_variables,
            "mask_and_scale": mask_and_scale,
            "decode_times": decode_times,
            "concat_characters": concat_characters,
            "decode_coords": decode_coords,
            "use_cftime": use_cftime,
            "decode_timedelta": decode_timedelta,
        }
        allowed = resolve_directories(allow_external)
        request = OpenOptions.of(
            filename_or_obj, storage_options, group, phony_dims, decode_vlen_strings, decoders, allowed
        )
        return _open(request, nested=False)[request.group]

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        phony_dims: Literal["access", "sort"] = "access",
        decode_vlen_strings: bool = True,
        storage_options: Mapping[str, Any] | None = None,
        allow_external: Sequence[str | os.PathLike[str]] = (),
        **decoders: Any,
    ) -> dict[str, xr.Dataset]:
        """Give a group and all groups below it by their paths, which are relative to it if it is asked for by name."""
        decoders["drop_variables"] = drop_variables
        allowed = resolve_directories(allow_external)
        request = OpenOptions.of(
            filename_or_obj, storage_options, group, phony_dims, decode_vlen_strings, decoders, allowed
        )
        found = _open(request, nested=True)
        return {str(path.relative_to(request.group) if group else path): dataset for path, dataset in found.items()}

    def open_datatree(self, filename_or_obj: Any, **options: Any) -> xr.DataTree:
        """Give what `open_groups_as_dict` gives as a tree."""
        return xr.DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, **options))


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """What is wanted of a file."""

    source: H5Source
    name: str  # of the file as ``encoding["source"]`` has it: links are not followed, and a URL has no credentials
    group: PurePosixPath
    phony_dims: str  # how h5netcdf numbers dimensions that have no name
    decode_vlen_strings: bool
    decoders: Mapping[str, Any]  # options of xarray's decoding
    allowed: tuple[Path, ...]  # real paths of directories whose files may be read

    @classmethod
    def of(
        cls, filename_or_obj: Any, storage_options: Mapping[str, Any] | None, group: str | None, *options: Any
    ) -> Self:
        """Give the request for a path, a URL, or a File that the caller holds."""
        if isinstance(filename_or_obj, (str, os.PathLike)) and not is_url(filename_or_obj):
            local = Path(strip_local(os.fspath(filename_or_obj))).expanduser()
            filename_or_obj = os.path.abspath(local)  # noqa: PTH100 - as xarray has it
        elif not isinstance(filename_or_obj, (str, h5py.File)):
            raise UnsupportedError(
                f"an object of {type(filename_or_obj).__name__}: the engine h5bound opens paths; give it one, or an "
                "h5py.File made from this"
            )
        source = H5Source.of(filename_or_obj, storage_options)
        name = source.path if source.remote else getattr(filename_or_obj, "filename", filename_or_obj)
        return cls(source, name, PurePosixPath("/", (group or "").strip("/")), *options)


def _open(request: OpenOptions, *, nested: bool) -> dict[PurePosixPath, xr.Dataset]:
    """Give a group, and maybe all groups below it, with the file open while their metadata is read."""
    handle = Handle(request.source)
    with handle.reading(ONLY_WINDOW) as file:
        groups = _read_groups(file, request, nested=nested)
    handle.close(ONLY_WINDOW)
    return groups


def _read_groups(opened: OpenFile, request: OpenOptions, *, nested: bool) -> dict[PurePosixPath, xr.Dataset]:
    import h5netcdf

    check_whole_file(opened.file, request.allowed)
    found = {}
    options = {"phony_dims": request.phony_dims, "decode_vlen_strings": request.decode_vlen_strings}
    with h5netcdf.File(opened.file, "r", **options) as root:
        top = Store(root, opened.file, request, request.group)
        for path in _walk(top.ds, request.group) if nested else (request.group,):
            store = Store(root, opened.file, request, path)
            dataset = found[path] = StoreBackendEntrypoint().open_dataset(store, **request.decoders)
            dataset.set_close(_close_nothing)
            if request.source.remote:
                dataset.encoding["source"] = request.name  # else xarray puts the URL there
            for name, variable in dataset.variables.items():
                if variable.dims == (name,) and variable.nbytes <= SMALL_INDEX:
                    variable.load()
    return found


def _close_nothing() -> None:
    """No file is open; `xarray.open_mfdataset` calls what closes each of its datasets."""


def _walk(group: h5netcdf.Group, path: PurePosixPath) -> Iterator[PurePosixPath]:
    """Give the path of a group and of all below it."""
    yield path
    for name, child in group.groups.items():
        yield from _walk(child, path / name)


class Store(H5NetCDFStore):
    """A group of an open file as xarray decodes it, with variables that do not need it to stay open.

    Parameters
    ----------
    root
        What h5netcdf makes of the file.
    file
        The file.
    request
        Says how it is opened again.
    group
        Path of the group.
    """

    __slots__ = ("_file", "_request")

    def __init__(self, root: h5netcdf.File, file: h5py.File, request: OpenOptions, group: PurePosixPath) -> None:
        super().__init__(root, group=str(group), mode="r")
        self._filename = request.name
        self._file = file
        self._request = request

    def open_store_variable(self, name: str, var: h5netcdf.Variable) -> xr.Variable:
        """Give a variable whose values are still to be read."""
        told: xr.Variable = super().open_store_variable(name, var)  # type: ignore[no-untyped-call]
        dataset = self._file[self._locate(name)]
        dtype = dataset.dtype
        plain = dataset.shape == told.shape and not (dtype.hasobject or dtype.names or dtype.subdtype)
        judged = self._request.allowed if may_have_external_files(dataset.id.get_create_plist()) else None
        what = DatasetKey(self._locate(name), dataset.shape, str(dtype), judged)
        place = VariableSpec(str(self._group), name, what, plain, self._request.decode_vlen_strings)
        values = LazilyIndexedArray(VariableArray(self._request.source, place, told.shape, told.dtype))
        return xr.Variable(told.dims, values, told.attrs, told.encoding)

    def _locate(self, name: str) -> str:
        """Give the path of a variable's dataset, which has another name if a dimension without values has this one."""
        parent = str(self._group).rstrip("/")
        hidden = f"{parent}/{NOT_A_COORDINATE}{name}"
        if hidden in self._file and (name not in self._file[parent or "/"] or _is_bare(self._file[f"{parent}/{name}"])):
            return hidden
        return f"{parent}/{name}"


def _is_bare(dataset: h5py.Dataset) -> bool:
    """Tell whether it is a netCDF dimension without a variable."""
    return h5ds.is_scale(dataset.id) and bytes(h5ds.get_scale_name(dataset.id)).startswith(NOT_A_VARIABLE)
