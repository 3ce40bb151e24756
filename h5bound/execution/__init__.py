"""Run the work units of a conversion or verification, on threads or on a dask cluster.

On a cluster a window of units is one task; :mod:`h5bound.execution.worker` is what a worker does with it.
"""
