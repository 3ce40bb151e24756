"""From encoded bytes to blocks: read regions of open datasets, outside HDF5's lock where that is exact.

`H5Source` is the file by its location, or the File that the caller holds open; `OpenFile` is the file while it is open.
`DatasetReader` chooses for each dataset between reading chunks, contiguous bytes, or through h5py, whose memory is
checked before it reads.
"""
