"""The context in which the objects of one file are scanned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h5bound.hdf5.dimension_scales import NOT_A_COORDINATE
from h5bound.zarr_model.attributes import read_attributes
from h5bound.zarr_model.hdmf import describe_for_hdmf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import h5py

    from h5bound.hdf5.references import ReferencePaths
    from h5bound.planning.options import Settings
    from h5bound.planning.origins import Origin
    from h5bound.planning.scan_log import ScanLog
    from h5bound.reader.open_file import OpenFile
    from h5bound.zarr_model.attributes import AttributesRecord
    from h5bound.zarr_model.dtypes import ZarrType
    from h5bound.zarr_model.node_names import NodeNamer


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
    name_nodes: NodeNamer

    def open(self, path: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
        """Return the object at a path of the report."""
        return self.opened.open_object(self.origin.locate(path))

    def read_attributes(self, source: h5py.Group | h5py.Dataset | h5py.Datatype, **options: Any) -> AttributesRecord:
        """Read the attributes of an object."""
        options |= {"zarr_format": self.settings.zarr_format, "nan": self.settings.nan}
        return read_attributes(source, netcdf=self.origin.netcdf, hdmf=self.hdmf, resolve=self.resolve, **options)

    def choose_conventions(self, zarr_type: ZarrType) -> dict[str, Any]:
        """Return attributes of conventions to add."""
        return describe_for_hdmf(zarr_type) if self.hdmf else {}

    def describe_renaming(self, name: str) -> str:
        """Return why a node has another name than `name`."""
        if self.origin.netcdf and name.startswith(NOT_A_COORDINATE):
            return "the name that netCDF's readers show"
        return "a portable name" if self.settings.names == "portable" else "Zarr or the target cannot hold the name"
