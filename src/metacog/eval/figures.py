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
from metacog.eval.lengths import Difficulty
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
class GateFigure:
    """The mean share of THINK tokens on which the gate is on; None where no reply says so."""

    coverage: Mapping[str, tuple[float | None, ...]]
    """By family, a figure for each level."""


@dataclass(frozen=True)
class PlanFigure:
    """The share of replies under each plan."""

    by_family: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Lengths:
    """Mean THINK tokens of right and wrong replies; None where there is none."""

    right: float | None
    wrong: float | None
    share_wrong: float
    """Of all replies."""


@dataclass(frozen=True)
class WrongFigure:
    """What goes wrong, and how long it was thought about."""

    learned: Mapping[str, Lengths]
    """By family, under the learned budgets."""
    unlimited: Mapping[str, Lengths]
    """By family, without a budget, the gate in place where there is one."""


@dataclass(frozen=True)
class LengthFigure:
    """Accuracy against length, by difficulty."""

    levels: tuple[Difficulty, ...]


@dataclass(frozen=True)
class Figures:
    """All pictures of a report."""

    curve: CurveFigure
    budget: BudgetFigure
    reliability: ReliabilityFigure
    alpha: AlphaFigure
    gate: GateFigure
    plans: PlanFigure
    wrong: WrongFigure
    lengths: LengthFigure

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return each figure's numbers by its name."""
        return {name: asdict(figure) for name, figure in vars(self).items()}


def figures_of(
    summary: Mapping[str, Any],
    rows: Sequence[EvalRow],
    curve: Sequence[Point] = (),
    lengths: Sequence[Difficulty] = (),
) -> Figures:
    """Return the pictures of an evaluation.

    Args:
        summary: From `summarise`.
        rows: The rows it was made from.
        curve: Constant caps on the traces without a budget, where they are known.
        lengths: What length is worth at each level, where it is known.
    """
    by_arm: dict[str, list[EvalRow]] = {}
    for row in rows:
        by_arm.setdefault(row.arm, []).append(row)
    learned = by_arm.get(LEARNED) or []
    read = by_arm.get(PROMPT_ONLY) or learned
    unlimited = by_arm.get(GATED) or by_arm.get(UNCAPPED) or []
    return Figures(
        curve=CurveFigure(_arm_points(summary["arms"]), tuple(curve)),
        budget=_budget(read),
        reliability=_reliability(read),
        alpha=AlphaFigure(_alpha(unlimited or read)),
        gate=GateFigure(_coverage(unlimited)),
        plans=PlanFigure(_plans(learned)),
        wrong=WrongFigure(_lengths(learned), _lengths(unlimited)),
        lengths=LengthFigure(tuple(lengths)),
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


def _by_family(rows: Sequence[EvalRow]) -> dict[str, list[EvalRow]]:
    groups: dict[str, list[EvalRow]] = {}
    for row in rows:
        groups.setdefault(row.family, []).append(row)
    return dict(sorted(groups.items()))


def _coverage(rows: Sequence[EvalRow]) -> dict[str, tuple[float | None, ...]]:
    """Return each family's coverage by level; no family where no reply had a gate."""
    known = [row for row in rows if row.gate_coverage is not None]
    groups = {
        family: (some, [row.gate_coverage for row in some if row.gate_coverage is not None])
        for family, some in _by_family(known).items()
    }
    levels = range(1 + max((row.level for row in known), default=-1))
    return {
        family: tuple(
            metrics.mean(
                share for row, share in zip(some, shares, strict=True) if row.level == level
            )
            for level in levels
        )
        for family, (some, shares) in groups.items()
    }


def _plans(rows: Sequence[EvalRow]) -> dict[str, dict[str, float]]:
    known = [row for row in rows if row.plan is not None]
    return {
        family: metrics.shares(row.plan for row in some)
        for family, some in _by_family(known).items()
    }


def _lengths(rows: Sequence[EvalRow]) -> dict[str, Lengths]:
    return {
        family: Lengths(
            right=metrics.mean(row.used for row in some if row.correct),
            wrong=metrics.mean(row.used for row in some if not row.correct),
            share_wrong=sum(not row.correct for row in some) / len(some),
        )
        for family, some in _by_family(rows).items()
    }


def _alpha(rows: Sequence[EvalRow]) -> dict[str, tuple[float, ...]]:
    groups: dict[str, list[tuple[float, ...]]] = {}
    for row in rows:
        if row.alpha is not None:
            groups.setdefault(str(row.domain), []).append(row.alpha)
    return {
        domain: tuple(np.mean(found, axis=0).tolist()) for domain, found in sorted(groups.items())
    }
