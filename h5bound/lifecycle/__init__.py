"""Open and close a source once in a process, also after a block failed.

All who need a source share one session, which opens it first and closes it last. HDF5 is not used.
"""
