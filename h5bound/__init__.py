"""HDF5 files as plain dask arrays that open and close their file, and whole files converted to Zarr.

Examples
--------
>>> import h5bound, h5py, tempfile, pathlib
>>> directory = pathlib.Path(tempfile.mkdtemp())
>>> with h5py.File(directory / "a.h5", "w") as file:
...     file["x"] = [1, 2, 3]
>>> int(h5bound.from_hdf5(directory / "a.h5", "x").sum())
6
>>> h5bound.convert(directory / "a.h5", directory / "a.zarr").complete
True
>>> h5bound.verify(directory / "a.h5", directory / "a.zarr").equal
True
"""

import logging
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from h5bound.errors import (
    CorruptChunkError,
    DatasetNotFoundError,
    H5BoundError,
    OptionError,
    SourceChangedError,
    SourceNotFoundError,
    TargetError,
    UnsafeSourceError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from h5bound._check import check
    from h5bound._combine import combine
    from h5bound._convert import convert
    from h5bound._verify import verify
    from h5bound.array import from_hdf5
    from h5bound.h5store import H5Store
    from h5bound.resource import from_resource
    from h5bound.views.references import references
    from h5bound.views.zarr_store import ZarrStore
else:
    _MODULES = {
        "H5Store": "h5store",
        "ZarrStore": "views.zarr_store",
        "check": "_check",
        "combine": "_combine",
        "convert": "_convert",
        "from_hdf5": "array",
        "from_resource": "resource",
        "references": "views.references",
        "verify": "_verify",
    }

    def __getattr__(name):  # noqa: ANN001, ANN202 (a type checker sees the imports above)
        """Import what is asked for, so that the command line answers before dask, h5py and zarr are loaded."""
        if name not in _MODULES:
            raise AttributeError(f"module 'h5bound' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"h5bound.{_MODULES[name]}"), name)
        return value


__all__ = [
    "CorruptChunkError",
    "DatasetNotFoundError",
    "H5BoundError",
    "H5Store",
    "OptionError",
    "SourceChangedError",
    "SourceNotFoundError",
    "TargetError",
    "UnsafeSourceError",
    "UnsupportedError",
    "ZarrStore",
    "check",
    "combine",
    "convert",
    "from_hdf5",
    "from_resource",
    "references",
    "verify",
]

__version__ = "0.1.0"


def __dir__() -> list[str]:
    """Return what is public, without the rooms that were imported."""
    return [*__all__, "__version__"]


logging.getLogger("h5bound").addHandler(logging.NullHandler())

if "dask" in sys.modules:  # else the first array or conversion registers them
    import_module("h5bound.graph.settings")
