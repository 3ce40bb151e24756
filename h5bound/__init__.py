"""HDF5 files as plain dask arrays that open and close their file, and whole files converted to Zarr.

Examples
--------
>>> import h5py, tempfile, pathlib
>>> directory = pathlib.Path(tempfile.mkdtemp())
>>> with h5py.File(directory / "a.h5", "w") as file:
...     file["x"] = [1, 2, 3]
>>> int(from_hdf5(directory / "a.h5", "x").sum())
6
>>> convert(directory / "a.h5", directory / "a.zarr").complete
True
>>> verify(directory / "a.h5", directory / "a.zarr").equal
True
"""

from h5bound._convert import convert
from h5bound._verify import verify
from h5bound.array import H5Store, from_hdf5
from h5bound.errors import H5BoundError
from h5bound.resource import from_resource

__all__ = ["H5BoundError", "H5Store", "convert", "from_hdf5", "from_resource", "verify"]

__version__ = "0.1.0"
