"""The rows of the P table: each a value with its interval, its n, its gate, and whether it is met."""
