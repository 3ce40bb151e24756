"""The bytes of a file, on this machine or on a server: state, byte ranges, and the `h5py.File` over them."""
