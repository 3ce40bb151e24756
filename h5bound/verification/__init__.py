"""Compare a store with its source, bit for bit."""
