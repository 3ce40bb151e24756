"""Reports of conversions and verifications: frozen records, JSON, and text for people.

`h5bound convert --report FILE.json` writes a `ConversionReport`. Every object of the source is in one of its lists, so
it also shows each object and attribute that is not in the store, with the reason. Nothing heavy is imported here.
"""
