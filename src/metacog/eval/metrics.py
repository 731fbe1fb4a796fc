"""Figures of replies as numbers; one that cannot be computed is None, never 0."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score

LEAST_IN_FAMILY = 10
"""Fewest rows from which a correlation within a family is given."""


@dataclass(frozen=True)
class Within:
    """A correlation in each family that has one, and their median."""

    by_family: Mapping[str, float]
    median: float | None


@dataclass(frozen=True)
class Bin:
    """Replies of like confidence."""

    confidence: float
    """Their mean."""
    accuracy: float
    """Share of them that were right."""
    count: int


@dataclass(frozen=True)
class SavingSplit:
    """What less was spent on, as shares of the uncapped spend; the three sum to the saving."""

    overthinking: float
    """Prompts that were right uncapped."""
    futility: float
    """Prompts that were wrong uncapped."""
    loops: float
    """Prompts that hit the token limit uncapped, right or wrong."""


@dataclass(frozen=True)
class SpendPair:
    """What one prompt cost uncapped and under an arm, and how the uncapped reply went."""

    uncapped: int
    spent: int
    right: bool
    """Uncapped."""
    hit_limit: bool
    """Uncapped."""


def mean(values: Iterable[int | float]) -> float | None:
    """Return the mean; None of nothing."""
    kept = list(values)
    return float(sum(kept) / len(kept)) if kept else None


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the rank correlation, ties at their mean rank; None where a side is constant."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(spearmanr(first, second).statistic)


def spearman_within(
    families: Sequence[str],
    first: Sequence[float],
    second: Sequence[float],
    *,
    least: int = LEAST_IN_FAMILY,
) -> Within:
    """Return the rank correlation inside each family; one with too few or constant values is left out."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for family, a, b in zip(families, first, second, strict=True):
        pairs.setdefault(family, []).append((a, b))
    found = {}
    for family, values in sorted(pairs.items()):
        value = spearman(*zip(*values, strict=True)) if len(values) >= least else None
        if value is not None:
            found[family] = value
    return Within(found, median(found.values()) if found else None)


def auroc(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """Return the probability that a right reply scores above a wrong one; None with one class."""
    outcomes = np.asarray(right, dtype=bool)
    won = int(outcomes.sum())
    lost = len(outcomes) - won
    if won == 0 or lost == 0:
        return None
    ranks = rankdata(scores)[outcomes].sum()  # the statistic of Mann and Whitney, ties at one half
    return float((ranks - won * (won + 1) / 2) / (won * lost))


def expected_auroc(scores: Sequence[float], probability: Sequence[float]) -> float | None:
    """Return the AUROC where each reply is right only with a probability.

    Every score stands for a right reply of weight p and a wrong one of weight 1 - p.
    """
    weight = np.asarray(probability, dtype=np.float64)
    if weight.sum() <= 0 or (1 - weight).sum() <= 0:
        return None
    labels = np.repeat([True, False], len(weight))
    twice = np.concatenate([weight, 1 - weight])
    return float(roc_auc_score(labels, np.tile(np.asarray(scores), 2), sample_weight=twice))


def brier(confidence: Sequence[float], right: Sequence[bool]) -> float | None:
    """Return the mean squared distance between confidence and outcome."""
    return mean((c - r) ** 2 for c, r in zip(confidence, right, strict=True))


def brier_skill(confidence: Sequence[float], right: Sequence[bool]) -> float | None:
    """Return 1 - Brier / Brier of the base rate: 0 for no skill; None with one class."""
    score = brier(confidence, right)
    if score is None or len(set(right)) < 2:
        return None
    rate = sum(right) / len(right)
    return 1 - score / (rate * (1 - rate))


def reliability(confidence: Sequence[float], right: Sequence[bool], *, bins: int = 15) -> list[Bin]:
    """Return bins of equal mass in rising order of confidence."""
    scores, outcomes = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [
        Bin(float(scores[part].mean()), float(outcomes[part].mean()), len(part)) for part in parts
    ]


def ece(confidence: Sequence[float], right: Sequence[bool], *, bins: int = 15) -> float | None:
    """Return the expected calibration error: sum over bins of n_b / n |confidence - accuracy|."""
    found = reliability(confidence, right, bins=bins)
    total = sum(part.count for part in found)
    if not total:
        return None
    return sum(part.count * abs(part.confidence - part.accuracy) for part in found) / total


def mean_absolute_error(predicted: Sequence[float], true: Sequence[float]) -> float | None:
    """Return the mean distance."""
    return mean(abs(p - t) for p, t in zip(predicted, true, strict=True))


def coverage(need: Sequence[int], enforced: Sequence[int | None]) -> float | None:
    """Return the share of prompts whose need lies within the cap; no cap (None) covers any need."""
    return mean(
        float(cap is None or tokens <= cap) for tokens, cap in zip(need, enforced, strict=True)
    )


def shares(values: Iterable[str | None]) -> dict[str, float]:
    """Return the share of each value, in order of names; None counts as `open`."""
    names = ["open" if value is None else str(value) for value in values]
    return {name: names.count(name) / len(names) for name in sorted(set(names))}


def split_saving(pairs: Sequence[SpendPair]) -> SavingSplit | None:
    """Return what a saving is made of; None where nothing was spent uncapped."""
    total = sum(pair.uncapped for pair in pairs)
    if not total:
        return None
    saved = {"overthinking": 0, "futility": 0, "loops": 0}
    for pair in pairs:
        kind = "loops" if pair.hit_limit else "overthinking" if pair.right else "futility"
        saved[kind] += pair.uncapped - pair.spent
    return SavingSplit(**{kind: tokens / total for kind, tokens in saved.items()})
