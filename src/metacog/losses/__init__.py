"""Pure functions of tensors: a loss and its metrics, as sums over labels with their counts."""
