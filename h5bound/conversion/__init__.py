"""Carry out the plan: read work units, write keys, and the root's metadata document last.

The content of a target decides whether a conversion is refused, resumed (if it has the same `fingerprint`, see
:mod:`h5bound.conversion.provenance`) or started. Another output of the plan is another subpackage next to this one.
"""
