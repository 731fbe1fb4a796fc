"""From a head's unbounded output to thinking tokens, and back for targets."""

import math
from dataclasses import dataclass
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from metacog.model.shape import ScaleKind

_EDGE = 1e-6


@dataclass(frozen=True)
class BudgetScale:
    """The budget head's range in tokens, and how it is crossed.

        f = sigmoid(raw)                                    the fraction, in [0, 1]
        linear   B = B_min + (B_max - B_min) f
        log      B = exp(log(B_min + 1) + (log(B_max + 1) - log(B_min + 1)) f) - 1

    Tokens stay fractional: they are rounded only where they are enforced.
    """

    min: int
    """B_min, in tokens."""
    max: int
    """B_max, in tokens."""
    kind: ScaleKind = "linear"

    def __post_init__(self) -> None:
        if not 0 <= self.min < self.max:
            raise ValueError(
                f"A budget scale wanted 0 <= min < max, got min {self.min} and max {self.max}. "
                "Change budget.min_tokens or budget.max_tokens."
            )

    def tokens(self, raw: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the budget in tokens, within [B_min, B_max]."""
        return self.at(torch.sigmoid(raw))

    def at(self, fraction: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the tokens at a fraction of the scale: the inverse of `fraction`."""
        low, high = self._ends()
        return self._from_axis(low + (high - low) * fraction).clamp(self.min, self.max)

    def fraction(self, tokens: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return where tokens lie on the scale, in [0, 1]: the space the budget loss works in.

        Tokens outside [B_min, B_max] count as the nearer end.
        """
        low, high = self._ends()
        return (self._to_axis(tokens.clamp(self.min, self.max)) - low) / (high - low)

    def raw(self, tokens: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the output from which `tokens` would follow; the ends are moved in by 1e-6."""
        return torch.logit(self.fraction(tokens), eps=_EDGE)

    def _ends(self) -> tuple[float, float]:
        match self.kind:
            case "linear":
                return float(self.min), float(self.max)
            case "log":
                return math.log1p(self.min), math.log1p(self.max)
            case _:
                assert_never(self.kind)

    def _to_axis(self, tokens: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.log1p(tokens) if self.kind == "log" else tokens

    def _from_axis(self, place: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.expm1(place) if self.kind == "log" else place
