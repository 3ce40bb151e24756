"""Carry out the plan: read work units, write keys, and the root's metadata document last.

The content of a target before decides whether a conversion is refused, resumed or started. Another output of the same
plan is a room next to this one.
"""
