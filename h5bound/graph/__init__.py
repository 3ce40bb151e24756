"""dask layers, windows and tasks that open a source, read blocks, close it, and only then pass the blocks on.

The barrier is the `wait_on` task of :mod:`h5bound.graph.tasks`. Block sizes are planned here too, and
:mod:`h5bound.graph.expression` serves ``array.query-planning``. HDF5 is not used.
"""
