"""The dask side: layers, windows and tasks that open a source, read blocks, close it, and only then release them.

The barrier is the `wait_on` task of :mod:`h5bound.graph.tasks`. Block sizes are chosen here too. Knows nothing of HDF5.
"""
