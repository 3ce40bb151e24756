"""Files, local and remote: URLs and their credentials, the state of a file, and its bytes by offset.

A range of a local file is one read at an offset, a range of a URL one request; a range past the end of the file is
refused. HDF5 opens both. What the errors of a server mean is in :mod:`h5bound.files.remote`.
"""
