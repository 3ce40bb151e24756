"""HDF5 files as plain dask arrays that open and close themselves, and whole files converted to Zarr."""

from h5bound.errors import H5BoundError

__all__ = ["H5BoundError"]

__version__ = "0.1.0"
