"""The numbers behind each picture, as they are written beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

import numpy as np
from scipy.stats import binomtest

from metacog.eval import metrics
from metacog.eval.arms import GATED, LEARNED, PROMPT_ONLY, UNCAPPED
from metacog.eval.cheap import Point
from metacog.eval.rows import EvalRow

_MOST_POINTS = 1500
"""Dots in a scatter; more are drawn from at random."""


@dataclass(frozen=True)
class ArmPoint:
    """Where one arm lands."""

    arm: str
    spend: float
    spend_ci95: tuple[float, float]
    accuracy: float
    accuracy_ci95: tuple[float, float]


@dataclass(frozen=True)
class CurveFigure:
    """Accuracy against spend."""

    arms: tuple[ArmPoint, ...]
    constant: tuple[Point, ...]
    """What constant caps reach, from the shortest to the longest."""


@dataclass(frozen=True)
class Dot:
    """One reply's predicted budget and the need of the uncapped reply."""

    domain: str
    family: str
    predicted: int
    need: int


@dataclass(frozen=True)
class BudgetFigure:
    """Predicted budget against need."""

    dots: tuple[Dot, ...]
    total: int
    """Replies that have both; `dots` may be a sample of them."""
    spearman: float | None


@dataclass(frozen=True)
class CalibrationBin:
    """Replies of like confidence, with the 95 % interval of how many of them are right."""

    confidence: float
    accuracy: float
    accuracy_ci95: tuple[float, float]
    count: int


@dataclass(frozen=True)
class ReliabilityFigure:
    """Accuracy against confidence."""

    bins: tuple[CalibrationBin, ...]
    ece: float | None


@dataclass(frozen=True)
class AlphaFigure:
    """The aggregator's mean weight of each block, by domain."""

    by_domain: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Figures:
    """All pictures of a report."""

    curve: CurveFigure
    budget: BudgetFigure
    reliability: ReliabilityFigure
    alpha: AlphaFigure

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return each figure's numbers by its name."""
        return {name: asdict(figure) for name, figure in vars(self).items()}


def figures_of(
    summary: Mapping[str, Any], rows: Sequence[EvalRow], curve: Sequence[Point] = ()
) -> Figures:
    """Return the pictures of an evaluation.

    Args:
        summary: From `summarise`.
        rows: The rows it was made from.
        curve: Constant caps on the traces without a budget, where they are known.
    """
    by_arm: dict[str, list[EvalRow]] = {}
    for row in rows:
        by_arm.setdefault(row.arm, []).append(row)
    read = by_arm.get(PROMPT_ONLY) or by_arm.get(LEARNED) or []
    return Figures(
        curve=CurveFigure(_arm_points(summary["arms"]), tuple(curve)),
        budget=_budget(read),
        reliability=_reliability(read),
        alpha=AlphaFigure(_alpha(by_arm.get(GATED) or by_arm.get(UNCAPPED) or read)),
    )


def _arm_points(arms: Mapping[str, Any]) -> tuple[ArmPoint, ...]:
    return tuple(
        ArmPoint(
            arm=name,
            spend=found["spend_mean"],
            spend_ci95=tuple(found["spend_ci95"]),
            accuracy=found["accuracy"],
            accuracy_ci95=tuple(found["accuracy_ci95"]),
        )
        for name, found in arms.items()
        if found["accuracy"] is not None
    )


def _budget(rows: Sequence[EvalRow]) -> BudgetFigure:
    dots = [
        Dot(str(row.domain), row.family, row.predicted, row.need)
        for row in rows
        if row.predicted is not None and row.need is not None
    ]
    shown = dots if len(dots) <= _MOST_POINTS else Random(0).sample(dots, _MOST_POINTS)
    spearman = metrics.spearman(
        [float(dot.predicted) for dot in dots], [float(dot.need) for dot in dots]
    )
    return BudgetFigure(tuple(shown), len(dots), spearman)


def _reliability(rows: Sequence[EvalRow]) -> ReliabilityFigure:
    known = [row for row in rows if row.confidence is not None]
    scores = [row.confidence for row in known if row.confidence is not None]
    right = [row.correct for row in known]
    bins = tuple(
        CalibrationBin(found.confidence, found.accuracy, _wilson(found), found.count)
        for found in metrics.reliability(scores, right, bins=10)
    )
    return ReliabilityFigure(bins, metrics.ece(scores, right))


def _wilson(found: metrics.Bin) -> tuple[float, float]:
    test = binomtest(round(found.accuracy * found.count), found.count)
    interval = test.proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _alpha(rows: Sequence[EvalRow]) -> dict[str, tuple[float, ...]]:
    groups: dict[str, list[tuple[float, ...]]] = {}
    for row in rows:
        if row.alpha is not None:
            groups.setdefault(str(row.domain), []).append(row.alpha)
    return {
        domain: tuple(np.mean(found, axis=0).tolist()) for domain, found in sorted(groups.items())
    }
