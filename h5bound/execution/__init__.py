"""Run the work units of a conversion or verification, on threads or on a dask cluster, and show their progress.

On a cluster a window of units is one task; a worker runs it with :func:`h5bound.execution.cluster.run_window`.
"""
