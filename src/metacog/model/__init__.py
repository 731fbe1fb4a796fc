"""The base and what reads and modulates it: taps, trunk, heads, aggregator, gate."""
