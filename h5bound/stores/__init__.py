"""A Zarr store as keys: which store a target is, how keys are written, and when they become visible.

A new store is one module with a subclass of `Target`, like :mod:`h5bound.stores.zip_file`, and one line in
:mod:`h5bound.stores.resolve`. The marker and the lock of an unfinished conversion are here too, and the checks that a
target overwrites neither the source nor another file that is read.
"""
