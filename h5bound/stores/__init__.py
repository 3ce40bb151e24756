"""A Zarr store as keys: which store a target is, how keys are written, and when they become visible."""
