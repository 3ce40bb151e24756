"""Read the metadata once, then plan what each key of the store will hold.

The scan follows external links that are allowed, skips what globs exclude, and refuses impossible declared sizes.
The options of a conversion are here too. Plans and work units are pure.
"""
