"""Padding stands on the left, in every batch: the last column holds each row's last token."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from metacog.errors import DataError


def left_padded_rows(
    mask: Bool[Tensor, "batch seq"] | Int[Tensor, "batch seq"],
) -> Bool[Tensor, " batch"]:
    """Return which rows have padding nowhere but before their tokens, and a token at all."""
    real = mask.bool()
    follows = (real[:, :-1] & ~real[:, 1:]).any(dim=1)
    return ~follows & real[:, -1:].all(dim=1)


def require_left_padded(mask: Bool[Tensor, "batch seq"] | Int[Tensor, "batch seq"]) -> None:
    """Refuse a batch with padding anywhere but before a row's tokens.

    Raises:
        DataError: Naming the rows: the layer would read padding for their last token.
    """
    wrong = torch.nonzero(~left_padded_rows(mask)).flatten().tolist()
    if wrong:
        raise DataError(
            f"Wanted a batch padded on the left, got padding after tokens in rows {wrong} of "
            f"{len(mask)}. Set tokenizer.padding_side = 'left', and pad before the first token."
        )
