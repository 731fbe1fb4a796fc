"""From who may look where to what an architecture's modules want of a mask."""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Mask = Bool[Tensor, "batch 1 seq width"]

_FULL, _SLIDING = "full_attention", "sliding_attention"


def window_of(config: Any) -> int | None:
    """Return how far blocks with a sliding window look back, or None where no block has one."""
    known = vars(config)
    kinds, window = known.get("layer_types"), known.get("sliding_window")
    assert window is None or isinstance(window, int)
    if kinds is not None:
        return window if _SLIDING in kinds else None
    return window


def masks_for(
    config: Any, mask: Mask, positions: Int[Tensor, "batch seq"]
) -> Mask | dict[str, Mask]:
    """Return the mask, narrowed to the window where blocks have one: by the kind of block or for all.

    Args:
        config: The base's, as transformers keeps it.
        mask: True where a token may look, any distance back.
        positions: Of the tokens that are read, in their rows.
    """
    window = window_of(config)
    if window is None:
        return mask
    narrow = mask & _near(positions, mask.shape[-1], window)
    if vars(config).get("layer_types") is None:
        return narrow
    return {_FULL: mask, _SLIDING: narrow}


def _near(positions: Int[Tensor, "batch seq"], width: int, window: int) -> Mask:
    """Return which columns lie within the window; a cache holds each position in its own column."""
    keys = positions
    if width != positions.shape[1]:
        keys = torch.arange(width, device=positions.device).unsqueeze(0)
    near: Mask = (positions.unsqueeze(2) - keys.unsqueeze(1) < window).unsqueeze(1)
    return near
