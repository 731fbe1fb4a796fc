"""Intervals by resampling prompts; the sampling seeds of a prompt stay together.

A prompt is drawn with all of its replies, so replies to one prompt never count as independent.
Every arm's figures are resampled with the same draws, which makes a difference of arms paired.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2000
_CELLS = 2_000_000
"""Most drawn indices that are held at once."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided 95 % interval and its one-sided 95 % lower bound."""

    mean: float
    ci95: tuple[float, float]
    lower95: float
    """The estimate lies above with 95 % confidence: the bound of a non-inferiority test."""


def resampled_means(
    columns: Float[np.ndarray, "prompts columns"], *, resamples: int = RESAMPLES, seed: int = 0
) -> Float[np.ndarray, "resamples columns"]:
    """Return the means of each column over prompts drawn with replacement, the same for all."""
    prompts = len(columns)
    if prompts == 0:
        raise ValueError("A bootstrap wants one prompt or more, got none.")
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS // prompts)
    parts = []
    for start in range(0, resamples, at_once):
        drawn = rng.integers(0, prompts, size=(min(at_once, resamples - start), prompts))
        parts.append(np.stack([column[drawn].mean(axis=1) for column in columns.T], axis=1))
    return np.concatenate(parts)


def mean_interval(
    values: Mapping[str, float], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval | None:
    """Return the mean over prompts of one value each, such as a paired difference of two arms."""
    if not values:
        return None
    column = np.array(list(values.values()), dtype=np.float64)
    drawn = resampled_means(column[:, None], resamples=resamples, seed=seed)[:, 0]
    return _interval(float(column.mean()), drawn)


def saving_interval(
    spent: Mapping[str, float],
    instead_of: Mapping[str, float],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Return 1 - sum(spent) / sum(instead_of) over the same prompts; None where nothing was spent."""
    if spent.keys() != instead_of.keys():
        raise ValueError(
            f"A saving wants the same prompts on both sides, got {len(spent)} and "
            f"{len(instead_of)} that differ. Pair the rows first."
        )
    columns = np.array([[spent[key], instead_of[key]] for key in spent], dtype=np.float64)
    if len(columns) == 0 or columns[:, 1].sum() == 0:
        return None
    drawn = resampled_means(columns, resamples=resamples, seed=seed)
    kept = drawn[drawn[:, 1] > 0]
    return _interval(
        float(1 - columns[:, 0].sum() / columns[:, 1].sum()), 1 - kept[:, 0] / kept[:, 1]
    )


def statistic_ci95(
    prompts: Sequence[str],
    statistic: Callable[[Int[np.ndarray, " rows"]], float | None],
    *,
    resamples: int = 500,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the interval of a statistic that is no mean, such as a rank correlation.

    Args:
        prompts: The prompt of each row.
        statistic: Takes indices of rows, some of them several times.
        resamples: Number of draws; those where the statistic is missing are left out.
        seed: Fixes the draws.
    """
    rows_of: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_of.setdefault(prompt, []).append(row)
    groups = [np.array(rows) for rows in rows_of.values()]
    if not groups:
        return None
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = rng.integers(0, len(groups), size=len(groups))
        value = statistic(np.concatenate([groups[index] for index in drawn]))
        if value is not None:
            found.append(value)
    return ci95(np.array(found)) if found else None


def ci95(drawn: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    """Return the 2.5 and 97.5 % points."""
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _interval(mean: float, drawn: Float[np.ndarray, " resamples"]) -> Interval:
    return Interval(mean, ci95(drawn), float(np.percentile(drawn, 5)))
