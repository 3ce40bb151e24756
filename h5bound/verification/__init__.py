"""Compare a store with its source, bit for bit: the tree, the nodes, their attributes, and their values."""
