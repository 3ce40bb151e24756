"""The table from HDF5 filters to decoders and Zarr codecs.

A new filter is one entry of `FILTERS` in :mod:`h5bound.codecs.filters` and, if it has no decoder yet, one function in
:mod:`h5bound.codecs.decoders`. What the option `codecs` may name is derived from the same table.
"""
