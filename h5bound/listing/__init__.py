"""What is in a file, for people: records of its objects, their text and their HTML.

`h5bound ls` and the reprs of `H5Store` show the same records.
"""
