"""The xarray backend for ``xarray.open_dataset(path, engine="h5bound")``: the engine, and its variables.

h5netcdf reads the metadata and names the dimensions; only the values are read here.
"""
