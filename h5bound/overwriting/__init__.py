"""Computes that write into files that they read from: which data they overwrite, and whether in a right order."""
