"""Carry out the plan: read work units, write keys, and the root's metadata document last.

The content of a target decides whether a conversion is refused, resumed or started. Another output is another room.
"""
