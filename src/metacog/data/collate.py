"""Batches of token rows, always padded on the left: the last column is every row's last token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metacog.data.padding import require_left_padded
from metacog.data.tasks.corpus import TokenRow
from metacog.records import Segment


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


@dataclass(frozen=True)
class SegmentRow:
    """A prompt and a reply, with the segment of each token of the reply and whether it is learned."""

    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    segments: tuple[Segment, ...]
    trained: tuple[bool, ...]


@dataclass(frozen=True)
class SegmentBatch:
    """Rows of one length, and a mask for each segment; padding is in none of them."""

    ids: Int[Tensor, "batch seq"]
    valid: Bool[Tensor, "batch seq"]
    """Tokens, as against padding."""
    prompt: Bool[Tensor, "batch seq"]
    think: Bool[Tensor, "batch seq"]
    """Tokens strictly between opener and closer."""
    close: Bool[Tensor, "batch seq"]
    answer: Bool[Tensor, "batch seq"]
    trained: Bool[Tensor, "batch seq"]
    """Tokens that are learned: the loss is over these alone."""


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


def in_segments(rows: Sequence[SegmentRow], pad: int) -> SegmentBatch:
    """Return rows as one batch as long as the longest of them, padding on the left.

    Raises:
        DataError: If the batch came out padded on the right.
    """
    length = max(len(row.prompt) + len(row.reply) for row in rows)
    ids = torch.full((len(rows), length), pad)
    parts = torch.full((len(rows), length), -1)
    trained = torch.zeros(len(rows), length, dtype=torch.bool)
    order = tuple(Segment)
    for index, row in enumerate(rows):
        whole = (*row.prompt, *row.reply)
        segments = [Segment.PROMPT] * len(row.prompt) + list(row.segments)
        ids[index, length - len(whole) :] = torch.tensor(whole)
        parts[index, length - len(whole) :] = torch.tensor([order.index(s) for s in segments])
        trained[index, length - len(row.reply) :] = torch.tensor(row.trained, dtype=torch.bool)
    valid = parts >= 0
    require_left_padded(valid)
    masks = {part.value: parts == number for number, part in enumerate(order)}
    return SegmentBatch(ids=ids, valid=valid, trained=trained, **masks)
