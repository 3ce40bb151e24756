"""The dask side: layers, windows and tasks that open a source, read blocks and close it. Knows nothing of HDF5."""
