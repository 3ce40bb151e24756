"""One open source per process: who needs it open, and who closes it. Knows nothing of HDF5."""
