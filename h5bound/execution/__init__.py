"""Run the work units of a conversion or verification, on threads or on a dask cluster."""
