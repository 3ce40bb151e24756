"""What is in an HDF5 file: its tree, datasets, types, references, chunk index, and the other files it names.

Reads metadata only. Knows nothing of dask or Zarr.
"""
