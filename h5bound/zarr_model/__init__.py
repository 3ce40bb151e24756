"""HDF5 described in Zarr's terms: data types, fill values, attributes, node names and codec chains.

The functions read open HDF5 objects and never write.
"""
