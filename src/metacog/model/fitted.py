"""What a calibration was fitted to, what it promises, and the map through its knots."""

from itertools import pairwise
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from torch import Tensor

Share = Annotated[float, Field(ge=0, le=1)]
ConfidenceMap = Literal["temperature", "platt", "isotonic"]


def _rising(knots: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    falls = any(a[0] >= b[0] or a[1] > b[1] for a, b in pairwise(knots))
    if falls or len(knots) == 1:
        raise ValueError(
            "wanted no knots or two and more, each further right and none lower than the one before, "
            f"got {knots}"
        )
    return knots


Knots = Annotated[tuple[tuple[Share, Share], ...], AfterValidator(_rising)]
"""A map that never falls, as pairs of a probability and what it becomes."""


class FittedTo(BaseModel):
    """How a calibration came about.

    The promises hold for questions drawn like those it was fitted to, and for no others.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    questions: Annotated[int, Field(ge=1)]
    """Questions of the calibration split."""

    confidence: ConfidenceMap
    """The map of confidence that had the lowest cross-validated Brier score."""

    coverage: Share | None
    """Share of needs that a budget of `coverage_scale` covers: a lower bound in the mean over
    calibrations; None where too few needs were known."""

    risk: Share | None
    """Probability of losing an answer that is right uncapped, at most; None where none was asked
    for, or none could be kept."""

    risk_confidence: Share | None
    """Share of calibrations in which `risk` is kept; None without a risk."""


def moved(
    probability: Float[Tensor, " batch"], knots: tuple[tuple[float, float], ...]
) -> Float[Tensor, " batch"]:
    """Return probabilities after a map through knots: straight between them, level beyond."""
    if not knots:
        return probability
    points = probability.new_tensor(knots)
    xs, ys = points[:, 0].contiguous(), points[:, 1]
    held = probability.clamp(xs[0], xs[-1])
    right = torch.searchsorted(xs, held).clamp(1, len(knots) - 1)
    left = right - 1
    share = (held - xs[left]) / (xs[right] - xs[left])
    return ys[left] + share * (ys[right] - ys[left])
