"""How much memory a step takes, roughly: what is held for certain, and what its gradient needs."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

_MOMENTS = 2
"""Numbers that AdamW keeps for each parameter; Muon keeps one, so there it is less."""
_WIDTHS_PER_BLOCK = 10
"""Vectors as wide as the residual stream that a block keeps of each token for its gradient: both norms'
inputs and outputs, queries, keys, values, what attention gives, and both sums."""
_MLP_WIDTHS_PER_BLOCK = 4
"""Vectors as wide as the MLP: both projections, the activation and the product."""
_LOGITS_PER_TOKEN = 3
"""Vectors as long as the vocabulary for each learned token: logits, their log-softmax, its gradient."""
_BYTES = 4
"""Of a number that learns, of its gradient, and of a logit."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    weights: int
    gradients: int
    optimizer: int
    activations: int | None
    """An estimate for the first batch; None where there is none yet."""


@dataclass(frozen=True)
class StepSize:
    """What the gradient of one step passes through."""

    tokens: int
    """Padding included."""
    learned: int
    """Tokens with a loss."""
    blocks: int
    """Blocks that the gradient passes through."""
    hidden: int
    mlp: int
    vocabulary: int
    bytes: int = _BYTES
    """Of a number of the base."""
    recomputes: bool = False
    """Whether blocks keep only their inputs."""

    @property
    def activations(self) -> int:
        """Bytes that are kept for the gradient.

        bytes * tokens * blocks * (10 hidden + 4 mlp) + 4 * 3 learned * vocabulary

        Where blocks are recomputed, each keeps `hidden`, and one at a time all the rest.
        """
        width = _WIDTHS_PER_BLOCK * self.hidden + _MLP_WIDTHS_PER_BLOCK * self.mlp
        kept = self.blocks * width
        if self.recomputes:
            kept = self.blocks * self.hidden + min(1, self.blocks) * width
        logits = _BYTES * _LOGITS_PER_TOKEN * self.learned * self.vocabulary
        return self.bytes * self.tokens * kept + logits


def memory_of(
    frozen: Sequence[nn.Parameter], learning: Sequence[nn.Parameter], step: StepSize | None
) -> Memory:
    """Return what parameters, their gradients and optimisers take, and the first step."""
    trained = sum(parameter.numel() for parameter in learning)
    return Memory(
        weights=sum(p.numel() * p.element_size() for p in (*frozen, *learning)),
        gradients=_BYTES * trained,
        optimizer=_MOMENTS * _BYTES * trained,
        activations=None if step is None else step.activations,
    )


def size(count: int) -> str:
    """Return bytes as a person reads them."""
    amount, unit = float(count), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"
