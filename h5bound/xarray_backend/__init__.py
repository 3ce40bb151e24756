"""The xarray backend behind ``xarray.open_dataset(path, engine="h5bound")``."""
