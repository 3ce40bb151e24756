"""Check a file: open each object, read each attribute, decode each stored chunk, and say what is damaged."""
