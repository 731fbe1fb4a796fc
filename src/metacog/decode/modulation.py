"""Lets what the layer reads move the sampler, within bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from metacog.records import Segment

_LEAST_TOP_P = 0.05


@dataclass(frozen=True)
class Modulation:
    """How far plan and confidence may move temperature and top-p; off by default."""

    temperature_span: float = 0.0
    """Largest change of the temperature, as a share of it."""
    top_p_span: float = 0.0
    """Largest change of top-p, as a share of probability."""
    plan_shift: Mapping[str, float] = field(default_factory=dict)
    """What a plan adds to the lean, which runs from -1 (narrow) to 1 (wide)."""
    segments: frozenset[Segment] = frozenset({Segment.THINK})
    """Where it acts."""

    def __post_init__(self) -> None:
        if not (0 <= self.temperature_span <= 1 and 0 <= self.top_p_span <= 1):
            raise ValueError(f"spans must lie between 0 and 1, got {self}.")


def modulate(
    modulation: Modulation,
    *,
    temperature: float,
    top_p: float,
    confidence: float,
    plan: str | None,
    segment: Segment,
) -> tuple[float, float]:
    """Return temperature and top-p in a segment under a plan and a confidence.

    lean = clamp(1 - 2 confidence + shift(plan), -1, 1)
    T = T0 (1 + temperature_span lean),   p = clamp(p0 + top_p_span lean, 0.05, 1)

    A doubtful reading samples wider, a confident one narrower.
    """
    if segment not in modulation.segments:
        return temperature, top_p
    shift = modulation.plan_shift.get(plan, 0.0) if plan is not None else 0.0
    lean = max(-1.0, min(1.0, 1 - 2 * confidence + shift))
    least = min(top_p, _LEAST_TOP_P)
    return (
        temperature * (1 + modulation.temperature_span * lean),
        max(least, min(1.0, top_p + modulation.top_p_span * lean)),
    )
