"""Chooses how far re-readings may go: the cheapest thresholds that keep validation accuracy.

What a policy of thresholds does to an uncapped trace is known without decoding it again: it stops
at the first re-reading that closes it, or at its cap, and the probability of a right answer there
was measured exactly. So every combination of thresholds is tried on the same traces. A landing is not
replayed: it moves a reply's last tokens before its cap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from metacog.model.calibration import LIKELY

BUDGET_SCALES = (1.0, 1.25, 1.5, 2.0)
BUDGET_OFFSETS = (0.0, 10.0, 20.0, 30.0, 45.0, 60.0)
NEEDED_SCALES = (20.0, 1e6)
GAINS = (0.0, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.12)
"""Gain below which THINK closes, as confident and as hopeless alike."""


@dataclass(frozen=True)
class TracePoints:
    """Uncapped traces with what the layer said along them; rows are padded with `valid` False.

    Points of a trace lie in rising order of `used`, its natural end last. A budget may end inside a
    line, where a base lands badly, so what is right is known after every token.
    """

    used: Float[ndarray, "traces points"]
    """THINK tokens before the point."""
    valid: Bool[ndarray, "traces points"]
    reread: Bool[ndarray, "traces points"]
    """Points at which the schedule reads again."""
    right: Float[ndarray, "traces tokens"]
    """Probability of the right answer if THINK closed after 0, 1, 2, ... tokens."""
    needed: Float[ndarray, "traces points"]
    ready: Float[ndarray, "traces points"]
    gain: Float[ndarray, "traces points"]
    budget: Float[ndarray, " traces"]
    """Predicted at the prompt, in tokens."""
    factor: Float[ndarray, " traces"]
    """Of the chosen plan, on the calibrated budget."""
    given: Float[ndarray, " traces"]
    """Enforced whatever was predicted, in tokens; NaN where the prediction is."""
    floor: Float[ndarray, " traces"]
    """Fewest THINK tokens that a prediction or a revision leads to."""

    @property
    def natural(self) -> Float[ndarray, " traces"]:
        """THINK tokens of the whole traces."""
        natural: Float[ndarray, " traces"] = np.where(self.valid, self.used, 0.0).max(axis=1)
        return natural


@dataclass(frozen=True)
class Thresholds:
    """What a calibration blob holds of the budget and its revisions."""

    budget_scale: float
    budget_offset: float
    """THINK tokens: small predictions need room to reach the end of their line."""
    needed_scale: float
    confident: float
    """THINK closes where gain is below and the answer likely right."""
    hopeless: float
    """THINK closes where gain is below and the answer likely wrong."""
    clip: tuple[float, float] = (1.0, math.inf)
    """Smallest and largest budget, in tokens."""


@dataclass(frozen=True)
class OperatingPoint:
    """The thresholds that were chosen, and what they did on the traces they were chosen on."""

    thresholds: Thresholds
    accuracy: float
    think_tokens: float
    reference_accuracy: float
    """What accuracy was held against."""
    uncapped_think_tokens: float


def outcome(points: TracePoints, thresholds: Thresholds) -> tuple[float, float]:
    """Return mean accuracy and THINK tokens under a policy of thresholds."""
    stop = stops(points, thresholds)
    return float(right_at(points, stop).mean()), float(stop.mean())


def budgets(points: TracePoints, thresholds: Thresholds) -> Float[ndarray, " traces"]:
    """Return the caps that are enforced at the start of THINK, in whole tokens."""
    scaled = points.budget * thresholds.budget_scale + thresholds.budget_offset
    predicted = np.maximum(points.floor, np.round(scaled.clip(*thresholds.clip) * points.factor))
    capped: Float[ndarray, " traces"] = np.where(np.isnan(points.given), predicted, points.given)
    return capped


def stops(points: TracePoints, thresholds: Thresholds) -> Float[ndarray, " traces"]:
    """Return the THINK tokens after which each trace closes under a policy of thresholds."""
    most = np.where(points.ready >= LIKELY, thresholds.confident, thresholds.hopeless)
    rereads = points.reread & points.valid
    closes = rereads & (points.gain < most)
    closed_at = np.maximum(points.floor, np.where(closes, points.used, np.inf).min(axis=1))
    # A lowered cap lies at or behind its point, so points behind the smallest cap change nothing.
    caps = points.used + np.ceil(points.needed * thresholds.needed_scale)
    lowered_at = np.maximum(points.floor, np.where(rereads, caps, np.inf).min(axis=1))
    ends = [closed_at, lowered_at, budgets(points, thresholds), points.natural]
    stop: Float[ndarray, " traces"] = np.minimum.reduce(ends)
    return stop


def choose_operating_point(
    points: TracePoints, *, margin: float, reference: float | None = None
) -> OperatingPoint:
    """Return the thresholds that think least while losing at most `margin` of accuracy.

    Where none loses as little as that, those that lose least.

    Args:
        points: Validation traces.
        margin: Accuracy that may be lost, as a share.
        reference: Accuracy against which it may be lost: the bare base's, where a gate made the
            traces; by default that of the traces uncapped.
    """
    natural = points.natural
    uncapped = float(right_at(points, natural).mean()) if reference is None else reference
    tried = [(*outcome(points, thresholds), thresholds) for thresholds in candidates()]
    good = [(tokens, -right, t) for right, tokens, t in tried if right >= uncapped - margin]
    tokens, accuracy, best = (
        min(good, key=lambda found: found[:2])
        if good
        else min(((tokens, -right, t) for right, tokens, t in tried), key=lambda found: found[1])
    )
    return OperatingPoint(best, -accuracy, tokens, uncapped, float(natural.mean()))


def candidates(
    budget_scales: Sequence[float] = BUDGET_SCALES,
    budget_offsets: Sequence[float] = BUDGET_OFFSETS,
    needed_scales: Sequence[float] = NEEDED_SCALES,
) -> list[Thresholds]:
    """Return every combination of thresholds that is tried."""
    grid = product(budget_scales, budget_offsets, needed_scales, GAINS, GAINS)
    return [Thresholds(*values) for values in grid]


def right_at(points: TracePoints, stop: Float[ndarray, " traces"]) -> Float[ndarray, " traces"]:
    """Return the probability of a right answer after the whole tokens at or before a stop."""
    return points.right[np.arange(len(stop)), stop.astype(np.int64)]
