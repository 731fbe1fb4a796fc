"""Batches of token rows, padded on the left."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metacog.data.padding import require_left_padded
from metacog.data.tasks.corpus import TokenRow


@dataclass(frozen=True)
class TokenBatch:
    """Rows of one length; padding has a mask and weights of zero.

    Raises:
        DataError: If padding stands anywhere but before a row's tokens.
    """

    ids: Int[Tensor, "batch seq"]
    mask: Int[Tensor, "batch seq"]
    weights: Float[Tensor, "batch seq"]
    """Weight of each token as a training target."""

    def __post_init__(self) -> None:
        require_left_padded(self.mask)

    @property
    def positions(self) -> Int[Tensor, "batch seq"]:
        """Position of each token in its row, padding not counted."""
        return (self.mask.cumsum(1) - 1).clamp(min=0)


def left_padded(rows: Sequence[TokenRow], length: int, pad: int) -> TokenBatch:
    """Return rows as one batch of a given length, padding on the left."""
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    weights = torch.zeros(len(rows), length)
    for index, row in enumerate(rows):
        start = length - len(row.ids)
        ids[index, start:] = torch.tensor(row.ids)
        mask[index, start:] = 1
        weights[index, start:] = torch.tensor(row.weights)
    return TokenBatch(ids, mask, weights)
