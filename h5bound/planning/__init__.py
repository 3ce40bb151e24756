"""Read the metadata once, then plan: options, scan of the source, and what each key of the store will hold."""
