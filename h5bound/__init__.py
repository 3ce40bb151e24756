"""HDF5 files as plain dask arrays that open and close themselves, and whole files converted to Zarr.

Examples
--------
>>> import h5py, tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "a.h5"
>>> with h5py.File(path, "w") as file:
...     file["x"] = [1, 2, 3]
>>> int(from_hdf5(path, "x").sum())
6
"""

from h5bound.array import H5Store, from_hdf5, from_resource
from h5bound.errors import H5BoundError

__all__ = ["H5BoundError", "H5Store", "from_hdf5", "from_resource"]

__version__ = "0.1.0"
