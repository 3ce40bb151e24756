"""What is in an HDF5 file: its hierarchy, datasets, types, references, and where its chunks are.

Links and the other files that a file names are checked here before anything is opened through them, and a hierarchy is
read within limits (`max_objects`, `max_depth`). Reads metadata only; knows nothing of dask or Zarr.
"""
