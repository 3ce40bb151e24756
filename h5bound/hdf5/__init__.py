"""The content of an HDF5 file: its hierarchy, datasets, types as JSON, references, and the places of its chunks.

Links and the other files that a file names are checked here before anything is opened through them, and a hierarchy is
read within limits (`max_objects`, `max_depth`). Reads metadata only; knows nothing of dask or Zarr.
"""
