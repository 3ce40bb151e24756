"""Do what the plan says: read work units, write keys, and mark the store complete last."""
