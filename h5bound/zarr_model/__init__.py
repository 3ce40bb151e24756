"""HDF5 described in Zarr's terms: data types, fill values, attributes, dimension and node names, codec chains.

A new data type is an entry in :mod:`h5bound.zarr_model.dtypes`. The functions read open HDF5 objects and never write.
"""
