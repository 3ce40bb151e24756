"""Files, local and remote: their state, their bytes, and how HDF5 opens them."""
