"""How a source is opened and closed in a process: one session for all who need it open. Knows nothing of HDF5."""
