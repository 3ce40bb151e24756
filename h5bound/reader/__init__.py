"""From encoded bytes to blocks: read regions of open datasets, outside HDF5's lock where that is exact."""
