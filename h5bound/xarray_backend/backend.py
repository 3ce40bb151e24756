"""The xarray engine ``h5bound``: netCDF-4 and other HDF5 files whose variables open and close the file themselves.

A Dataset equals the one of ``engine="h5netcdf"``: h5netcdf and xarray's store for it read the metadata, and xarray
decodes. Only the values are read by :mod:`h5bound.xarray_backend.backend_array`, and no file stays open. xarray finds
the engine by its entry point; nothing else imports this module, or xarray.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import h5py
import xarray as xr
from xarray.backends import BackendEntrypoint, StoreBackendEntrypoint

from h5bound.errors import OptionError, shorten_tracebacks
from h5bound.files.urls import is_url, strip_local
from h5bound.hdf5.external_files import resolve_directories
from h5bound.lifecycle.handle import Handle
from h5bound.lifecycle.session import suspend_session
from h5bound.reader.source import H5Source
from h5bound.xarray_backend.checked_file import CheckedFile
from h5bound.xarray_backend.store import Store, VariableOptions, refuse_sequences
from h5bound.xarray_backend.worker_files import ONLY_WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import h5netcdf


MAX_LOADED = 1 << 20
"""Largest dimension coordinate, in bytes, whose values are read with the metadata: xarray makes an index of them."""


class Engine(BackendEntrypoint):
    """The engine that ``engine="h5bound"`` selects.

    No file is open when `xarray.open_dataset` returns. The file is opened when values are read, and closed afterwards:
    once for each variable that is loaded, or with ``chunks=`` once for each compute. ``close`` closes it in this
    process while a compute holds it; what is read later opens it again. A read raises `SourceChangedError` if the file
    changed since.

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
    open_dataset_parameters: ClassVar[tuple[str, ...] | None] = (
        "filename_or_obj", "drop_variables", "mask_and_scale", "decode_times", "concat_characters", "decode_coords",
        "use_cftime", "decode_timedelta", "group", "phony_dims", "decode_vlen_strings", "storage_options",
        "allow_external", "lock", "invalid_netcdf", "autoclose", "clobber", "mode", "format", "driver", "driver_kwds",
    )  # fmt: skip

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return False: xarray selects this engine by its name only, since netcdf4 and h5netcdf open the same files."""
        return False

    @shorten_tracebacks
    def open_dataset(self, filename_or_obj: Any, **options: Any) -> xr.Dataset:
        """Return one group of a file.

        Parameters
        ----------
        filename_or_obj
            Path, URL that fsspec supports, `h5py.File`, which is used and left open, a binary file object, or the bytes
            of a file.
        drop_variables, mask_and_scale, decode_times, concat_characters, decode_coords, use_cftime, decode_timedelta
            See `xarray.open_dataset`.
        group
            Path of the group; the root by default.
        phony_dims, decode_vlen_strings
            See ``engine="h5netcdf"``.
        storage_options
            Options passed to fsspec for a URL, such as credentials.
        allow_external
            Directories from which external storage and sources of virtual datasets may be read.
        lock, invalid_netcdf, autoclose, clobber, mode, format, driver, driver_kwds
            Taken for ``engine="h5netcdf"`` or ``"netcdf4"``: the first four make no difference here, the others must be
            the defaults.

        Raises
        ------
        UnsafeSourceError
            If the group, or one above it, has an external link, which h5netcdf would follow, or needs a file that is
            not allowed. With ``phony_dims="sort"``, h5netcdf opens all groups.
        SourceNotFoundError, H5BoundError
            If the file does not exist, or cannot be opened.
        OptionError
            If `filename_or_obj` is something else, or an option has a value that makes no sense here.
        OSError
            If the file does not have the group.
        """
        (dataset,) = _open(filename_or_obj, nested=False, **options).values()
        return dataset

    @shorten_tracebacks
    def open_groups_as_dict(
        self, filename_or_obj: Any, *, group: str | None = None, **options: Any
    ) -> dict[str, xr.Dataset]:
        """Return a group and all groups below it by path, relative to the group if one was named."""
        datasets = _open(filename_or_obj, nested=True, group=group, **options)
        return {str(path.relative_to(_parse_group(group)) if group else path): datasets[path] for path in datasets}

    def open_datatree(self, filename_or_obj: Any, **options: Any) -> xr.DataTree:
        """Return the groups of `open_groups_as_dict` as a tree."""
        return xr.DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, **options))


def _open(
    filename_or_obj: Any,
    *,
    nested: bool,
    group: str | None = None,
    phony_dims: Literal["access", "sort"] = "access",
    decode_vlen_strings: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    allow_external: Sequence[str | os.PathLike[str]] = (),
    lock: object = None,
    invalid_netcdf: object = None,
    autoclose: object = None,
    clobber: object = None,
    mode: str = "r",
    format: str | None = None,
    driver: str | None = None,
    driver_kwds: Mapping[str, Any] | None = None,
    **decoders: Any,
) -> dict[PurePosixPath, xr.Dataset]:
    """Return a group, and all groups below it if `nested`, by path; the file is open while their metadata is read."""
    h5netcdf = import_h5netcdf()
    if mode != "r":
        raise OptionError(f"mode={mode!r}: engine h5bound only reads; leave it out, or pass mode='r'")
    if format not in (None, "NETCDF4") or driver not in (None, "sec2") or driver_kwds:
        raise OptionError(
            f"format={format!r}, driver={driver!r}: engine h5bound opens netCDF-4 and HDF5 files, with HDF5's default "
            "driver; for another one pass h5py.File(path, driver=…)"
        )
    source, name = _find_source(filename_or_obj, storage_options)
    variables = VariableOptions(
        source=source,
        name=name,
        allowed=resolve_directories(allow_external),
        decode_vlen_strings=decode_vlen_strings,
    )
    handle = Handle(source)
    with handle.reading(ONLY_WINDOW) as opened:
        opened.refresh()
        file = CheckedFile(opened.file, variables.allowed)
        options = {"phony_dims": phony_dims, "decode_vlen_strings": decode_vlen_strings}
        with h5netcdf.File(file, "r", **options) as root:
            top = _parse_group(group)
            if str(top) not in file:
                raise OSError(f"group not found: {group}; {source.path} does not have it")
            paths = _walk(Store(root, file, variables, group=top).ds, top) if nested else [top]
            datasets = {path: _decode(Store(root, file, variables, group=path), decoders) for path in paths}
    handle.close(ONLY_WINDOW)
    return datasets


def import_h5netcdf() -> Any:
    """Return the package that reads the metadata. Raise ImportError that says how to have it."""
    try:
        return import_module("h5netcdf")
    except ImportError as error:
        raise ImportError(f"engine h5bound needs h5netcdf: pip install 'h5bound[xarray]' ({error})") from None


def _find_source(filename_or_obj: Any, storage_options: Mapping[str, Any] | None) -> tuple[H5Source, str]:
    """Return the source, and its name as ``encoding["source"]`` has it: with links, and without credentials."""
    if isinstance(filename_or_obj, bytes):  # the content of a file, as for h5netcdf
        filename_or_obj = io.BytesIO(filename_or_obj)
    if isinstance(filename_or_obj, (str, Path)) and not is_url(filename_or_obj):
        local = Path(strip_local(os.fspath(filename_or_obj))).expanduser()
        filename_or_obj = os.path.abspath(local)  # noqa: PTH100 - as xarray does
    source = H5Source.of(filename_or_obj, storage_options)
    if isinstance(filename_or_obj, (str, h5py.File)) and not source.remote:
        return source, getattr(filename_or_obj, "filename", filename_or_obj)
    return source, source.path


def _parse_group(group: str | None) -> PurePosixPath:
    return PurePosixPath("/", (group or "").strip("/"))


def _walk(group: h5netcdf.Group, path: PurePosixPath) -> Iterator[PurePosixPath]:
    """Yield the path of a group and of all groups below it."""
    yield path
    for name, child in group.groups.items():
        yield from _walk(child, path / name)


def _opens_without(sequences: Sequence[h5py.Dataset], store: Store, decoders: Mapping[str, Any]) -> bool:
    """Return whether xarray decodes a group once these variables are left out."""
    dropped = decoders.get("drop_variables") or ()
    names = [PurePosixPath(dataset.name).name for dataset in sequences]
    names += [dropped] if isinstance(dropped, str) else dropped
    with suppress(ValueError):
        StoreBackendEntrypoint().open_dataset(store, **{**decoders, "drop_variables": names})
        return True
    return False


def _decode(store: Store, decoders: Mapping[str, Any]) -> xr.Dataset:
    """Return the dataset of a group as xarray decodes it, with the values of small dimension coordinates loaded.

    Values without dimensions are loaded too, unless each would be a request: as coordinates they are written again with
    a variable that is added to the file, and xarray reads them only when netCDF4 has opened it for writing.
    """
    try:
        dataset = StoreBackendEntrypoint().open_dataset(store, **decoders)
    except ValueError as error:
        sequences = store.list_sequences()
        if sequences and _opens_without(sequences, store, decoders):
            raise refuse_sequences(sequences) from error
        raise
    dataset.set_close(partial(suspend_session, store.options.source.key))
    if store.options.source.remote:
        dataset.encoding["source"] = store.options.name  # xarray has put the URL there
    for name, variable in dataset.variables.items():
        if variable.dims == (name,) and variable.nbytes <= MAX_LOADED:
            variable.load()
        elif not variable.dims and not store.options.source.remote:
            with suppress(Exception):  # whoever reads it meets the error
                variable.load()
    return dataset
