"""From encoded bytes to blocks: read regions of open datasets, outside HDF5's lock where that is exact.

`H5Source` says which file is read, `OpenFile` is that file while it is open, and `DatasetReader` chooses for each
dataset between chunks, contiguous bytes and h5py itself, which is first checked not to take more memory than declared.
"""
