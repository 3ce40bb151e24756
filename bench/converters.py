"""The libraries that make Zarr of HDF5, or read it without HDF5, each used as its documentation says."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import h5bound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bench.awkward_cases import Case

    Open = Callable[[Sequence[Path], Path, Case], Any]
    """Takes the files and an empty folder; returns a store of zarr, or a mapping of datasets."""


@dataclass(frozen=True, slots=True)
class Converter:
    """One way from HDF5 to Zarr."""

    open: Open
    packages: tuple[str, ...]
    """That it needs, as they are called where they are installed from; the first one is the peer."""
    modules: tuple[str, ...] = ()
    """That these packages bring."""
    series: bool = True
    """Whether it joins files."""
    attributes: bool = True
    """Whether it has attributes."""

    def takes(self, section: str) -> bool:
        """Return whether it can be asked for the cases of a section."""
        return not self.missing and {"Series of files": self.series, "Attributes": self.attributes}.get(section, True)

    @property
    def missing(self) -> bool:
        """Whether it cannot run here."""
        return not all(map(find_spec, self.modules))

    @property
    def versions(self) -> list[str]:
        """The packages with their versions."""
        return [f"{name} {metadata.version(name)}" for name in self.packages]


def ask(case: Case, folder: Path) -> dict[str, Any]:
    """Return the options of h5bound for a case."""
    return {key: [folder] if key == "allow_external" else value for key, value in case.options.items()}


def note(report: Any) -> None:
    """Log what a report tells, as the command line prints it."""
    single = getattr(report, "conversion", report)
    for entry in (*single.skipped, *single.notes, *single.links, *getattr(report, "differences", ())):
        logging.getLogger("bench").warning("%s", entry)


def convert(paths: Sequence[Path], folder: Path, case: Case) -> Any:
    """Write a Zarr store with h5bound."""
    target = folder / "out.zarr"
    if case.series:
        note(h5bound.combine(list(paths), target, dim="time"))
    else:
        note(h5bound.convert(paths[0], target, **ask(case, paths[0].parent)))
    return target


def serve(paths: Sequence[Path], folder: Path, case: Case) -> Any:
    """Serve the files as a store with h5bound."""
    store = (
        h5bound.ZarrStore(list(paths), dim="time")
        if case.series
        else h5bound.ZarrStore(paths[0], **ask(case, paths[0].parent))
    )
    note(store.report)
    return store


def open_references(refs: Any) -> Any:
    """Return the store that fsspec makes of references."""
    from zarr.storage import FsspecStore

    system = import_module("fsspec").filesystem("reference", fo=refs, asynchronous=True, remote_protocol="file")
    return FsspecStore(system, read_only=True)


def refer(paths: Sequence[Path], folder: Path, case: Case) -> Any:
    """Write references with h5bound."""
    target = folder / "out.json"
    if case.series:
        note(h5bound.references(list(paths), target, dim="time"))
    else:
        note(h5bound.references(paths[0], target, **ask(case, paths[0].parent)))
    return open_references(str(target))


def convert_with_xarray(paths: Sequence[Path], folder: Path, case: Case) -> Any:
    """Open with xarray and h5netcdf, and write."""
    import xarray as xr

    target = folder / "out.zarr"
    if case.series:
        with xr.open_mfdataset(paths, engine="h5netcdf", chunks={}) as dataset:
            dataset.to_zarr(target)
    else:
        with xr.open_datatree(paths[0], engine="h5netcdf", phony_dims="access") as tree:
            tree.to_zarr(target)
    return target


def convert_with_dask(paths: Sequence[Path], folder: Path, case: Case) -> Any:
    """Write each dataset that h5py visits with dask; attributes are copied as they are."""
    import dask.array as da
    import h5py
    import zarr

    target = folder / "out.zarr"
    datasets: dict[str, Any] = {}
    zarr.open_group(target, mode="w")
    with h5py.File(paths[0]) as file:
        # Nothing may be computed while h5py visits: it holds its lock.
        file.visititems(lambda name, node: datasets.update({name: node}) if isinstance(node, h5py.Dataset) else None)
        for name, node in datasets.items():
            chunks = node.chunks or (-1 if node.dtype.hasobject else "auto")
            da.from_array(node, chunks=chunks).to_zarr(str(target), component=name)
            zarr.open_array(target, path=name).attrs.update(
                {key: value.tolist() if hasattr(value, "tolist") else value for key, value in node.attrs.items()}
            )
    return target


def refer_with_virtualizarr(paths: Sequence[Path], folder: Path, case: Case) -> Any:
    """Write references of VirtualiZarr to icechunk."""
    ic, vz = import_module("icechunk"), import_module("virtualizarr")
    prefix = f"file://{paths[0].parent}/"
    config = ic.RepositoryConfig.default()
    config.set_virtual_chunk_container(
        ic.VirtualChunkContainer(prefix, ic.local_filesystem_store(str(paths[0].parent)))
    )
    access = {prefix: ic.credentials.LocalFileSystemAccess}
    repository = ic.Repository.create(
        ic.local_filesystem_storage(str(folder / "out.icechunk")), config, authorize_virtual_chunk_access=access
    )
    session = repository.writable_session("main")
    registry = import_module("obspec_utils.registry").ObjectStoreRegistry
    registry = registry({"file://": import_module("obstore.store").LocalStore()})
    options = {"registry": registry, "parser": import_module("virtualizarr.parsers").HDFParser()}
    urls = [f"file://{path}" for path in paths]
    if case.series:
        joining = {"combine": "nested", "concat_dim": "time", "coords": "minimal", "compat": "override"}
        virtual = vz.open_virtual_mfdataset(urls, **options, **joining, loadable_variables=["time", "lat"])
        virtual.vz.to_icechunk(session.store)
    else:
        vz.open_virtual_datatree(urls[0], **options).vz.to_icechunk(session.store)
    session.commit("written")
    return repository.readonly_session("main").store


def refer_with_kerchunk(paths: Sequence[Path], folder: Path, case: Case) -> Any:
    """Make references with kerchunk."""
    refs = [import_module("kerchunk.hdf").SingleHdf5ToZarr(str(path)).translate() for path in paths]
    if case.series:
        join = import_module("kerchunk.combine").MultiZarrToZarr
        times = {"coo_map": {"time": "cf:time"}, "concat_dims": ["time"]}
        return open_references(join(refs, **times, identical_dims=["lat"]).translate())
    return open_references(refs[0])


def read_with_pyfive(paths: Sequence[Path], folder: Path, case: Case) -> Any:
    """Open with pyfive."""
    return import_module("pyfive").File(str(paths[0]))


def read_with_hidefix(paths: Sequence[Path], folder: Path, case: Case) -> Any:
    """Open with hidefix."""
    return import_module("hidefix").Index(str(paths[0]))


CONVERTERS: Mapping[str, Converter] = {
    "h5bound convert": Converter(convert, ("h5bound", "zarr")),
    "h5bound ZarrStore": Converter(serve, ("h5bound", "zarr")),
    "h5bound refs": Converter(refer, ("h5bound", "fsspec"), ("fsspec",)),
    "xarray": Converter(convert_with_xarray, ("xarray", "h5netcdf"), ("xarray", "h5netcdf")),
    "h5py + dask": Converter(convert_with_dask, ("dask", "h5py"), series=False),
    "VirtualiZarr": Converter(
        refer_with_virtualizarr, ("virtualizarr", "icechunk"), ("virtualizarr", "icechunk", "obstore", "obspec_utils")
    ),
    "kerchunk": Converter(refer_with_kerchunk, ("kerchunk", "fsspec"), ("kerchunk", "fsspec")),
    "pyfive": Converter(read_with_pyfive, ("pyfive",), ("pyfive",), series=False),
    "hidefix": Converter(read_with_hidefix, ("hidefix",), ("hidefix",), series=False, attributes=False),
}
"""All ways by name."""
