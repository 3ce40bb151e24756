"""How a source is opened and closed in a process, with one session for all who need it open.

The session opens the source for the first of them and closes it after the last. Knows nothing of HDF5.
"""
