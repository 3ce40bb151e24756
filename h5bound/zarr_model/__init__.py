"""HDF5 in Zarr's terms: data types, fill values, attributes, node names, codec chains. Nothing here writes.

References become paths (:mod:`h5bound.zarr_model.dtypes`), and links of a group a list of them
(:mod:`h5bound.zarr_model.attributes`).
"""
