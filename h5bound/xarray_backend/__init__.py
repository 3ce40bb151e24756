"""The xarray backend for ``xarray.open_dataset(path, engine="h5bound")``."""
