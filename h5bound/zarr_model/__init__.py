"""HDF5 described in Zarr's terms: data types, fill values, attributes, node names and codec chains."""
