"""Open and close a source once in a process.

All who need a source open share one session, which opens it for the first and closes it after the last. The room knows
nothing of HDF5.
"""
