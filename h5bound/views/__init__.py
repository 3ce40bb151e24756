"""HDF5 files seen as Zarr, without a copy: the plan of a conversion says what each key of the store holds."""
