"""The table from HDF5 filters to decoders and Zarr codecs."""
