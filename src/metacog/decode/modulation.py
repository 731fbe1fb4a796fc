"""Lets what the layer reads move the sampler, within bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from metacog.records import Segment

_LEAST_TOP_P = 0.05


class Sampler(NamedTuple):
    """How the tokens of a segment are drawn."""

    temperature: float
    top_p: float
    penalty: float
    """Of repetition: divides positive and multiplies negative logits of written tokens; 1 is off."""


@dataclass(frozen=True)
class Modulation:
    """How far plan and confidence may move the sampler; off by default."""

    temperature_span: float = 0.0
    """Largest change of the temperature, as a share of it."""
    top_p_span: float = 0.0
    """Largest change of top-p, as a share of probability."""
    plan_shift: Mapping[str, float] = field(default_factory=dict)
    """What a plan adds to the lean, which runs from -1 (narrow) to 1 (wide)."""
    segments: frozenset[Segment] = frozenset({Segment.THINK})
    """Where it acts."""
    penalty_span: float = 0.0
    """Largest change of the repetition penalty, as a share of it."""

    def __post_init__(self) -> None:
        spans = (self.temperature_span, self.top_p_span, self.penalty_span)
        if not all(0 <= span <= 1 for span in spans):
            raise ValueError(f"spans must lie between 0 and 1, got {self}.")


def modulate(
    modulation: Modulation,
    plain: Sampler,
    *,
    confidence: float,
    plan: str | None,
    segment: Segment,
) -> Sampler:
    """Return how a segment is sampled under a plan and a confidence.

    lean = clamp(1 - 2 confidence + shift(plan), -1, 1)
    T = T0 (1 + temperature_span lean),   p = clamp(p0 + top_p_span lean, 0.05, 1)
    r = max(min(r0, 1), r0 (1 + penalty_span lean))

    A doubtful reading samples wider and repeats itself less, a confident one narrower; no penalty turns
    into a reward for repeating.
    """
    if segment not in modulation.segments:
        return plain
    temperature, top_p, penalty = plain
    shift = modulation.plan_shift.get(plan, 0.0) if plan is not None else 0.0
    lean = max(-1.0, min(1.0, 1 - 2 * confidence + shift))
    least = min(top_p, _LEAST_TOP_P)
    return Sampler(
        temperature * (1 + modulation.temperature_span * lean),
        max(least, min(1.0, top_p + modulation.top_p_span * lean)),
        max(min(penalty, 1.0), penalty * (1 + modulation.penalty_span * lean)),
    )
