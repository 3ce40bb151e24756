"""Do what the plan says: read work units, write keys, and mark the store complete last.

What a target holds before decides whether a conversion is refused, resumed or begins from nothing. Another output of
the same plan is a room next to this one.
"""
