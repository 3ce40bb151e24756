"""Files, local and remote: URLs and their credentials, the state of a file, and its bytes by offset.

A range of a local file is one read at an offset, a range of a URL one request. HDF5 opens both.
"""
