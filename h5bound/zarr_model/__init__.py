"""HDF5 in Zarr's terms: data types, fill values, attributes, node names, codec chains. Nothing here writes."""
