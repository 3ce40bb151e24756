"""Many HDF5 files of one shape joined to one store.

Each file is scanned once into a record without open files (`file_scan`, `scan_files`). Pure rules decide from these
records what each variable of the store is, or what stands against it (`rules`).
"""
