"""Read the metadata once, then plan: options, the scan of the source, and what each key of the store will hold.

The scan follows external links that are allowed, leaves out what globs exclude, and refuses what is declared larger
than it can be. Plans and work units are pure.
"""
