"""How much better a reply did than the others of its group would have done under its cap."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class GroupReply:
    """What the advantage needs to know of one reply of a group."""

    reward: float
    spend: int
    """THINK and ANSWER tokens."""
    cap: float
    """THINK tokens that were allowed; infinity without a cap."""
    believed: float
    """Probability of a right answer under this cap, said before the reply was there."""


def group_advantages(
    group: Sequence[GroupReply], *, lambda_tokens: float, max_tokens: int
) -> Float[Tensor, " replies"]:
    """Return each reply's reward above what the others of its group lead to expect at its cap.

        A_i = r_i - mean_{j != i} [ r_j + (b_i - b_j) - lambda / B_max (min(s_j, c_i) - s_j) ]

    A reply cut short is not blamed for its cap: `b`, the probability of a right answer that the
    layer gave each cap beforehand, moves the others' rewards to cap c_i, and their spends s_j are
    cut there. The baseline does not depend on the reply itself, so however wrong `b` is, the
    gradient's mean stays the same (Williams 1992, section 5; leave-one-out: Kool, van Hoof,
    Welling 2019). There is no division by length, nor by a deviation that may vanish.

    Args:
        group: Two replies or more to one prompt.
        lambda_tokens: Reward taken away for spending B_max tokens.
        max_tokens: B_max, in tokens.

    Raises:
        ValueError: If there is nothing to compare with.
    """
    if len(group) < 2:
        raise ValueError(
            f"An advantage wanted two replies to a prompt or more, got {len(group)}. "
            "Raise run.objective.group_size."
        )
    reward, spend, cap, believed = (
        torch.tensor([float(value) for value in column], dtype=torch.float64)
        for column in zip(*((r.reward, r.spend, r.cap, r.believed) for r in group), strict=True)
    )
    saved = spend - torch.minimum(spend, cap.unsqueeze(1))
    expected = reward + (believed.unsqueeze(1) - believed) + lambda_tokens / max_tokens * saved
    others = 1 - torch.eye(len(group), dtype=torch.float64)
    baseline = (expected * others).sum(1) / (len(group) - 1)
    return (reward - baseline).float()
