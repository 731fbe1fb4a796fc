"""Two arms side by side: differences, savings and bounds, paired by question and seed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from metacog.eval import metrics
from metacog.eval.arms import MARGIN
from metacog.eval.bootstrap import RESAMPLES, Interval, mean_interval, saving_interval
from metacog.eval.rows import EvalRow, RowKey
from metacog.records import CloseReason

Json = dict[str, Any]
Pair = tuple[EvalRow, EvalRow]


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn."""

    resamples: int = RESAMPLES
    seed: int = 0

    def mean(self, rows: Iterable[tuple[EvalRow, int | float]]) -> Interval | None:
        """Return the mean over prompts, each the mean of its seeds."""
        return mean_interval(_by_prompt(rows), resamples=self.resamples, seed=self.seed)

    def saving(
        self, spent: Mapping[str, float], instead_of: Mapping[str, float]
    ) -> Interval | None:
        """Return the share that was saved, over prompts."""
        return saving_interval(spent, instead_of, resamples=self.resamples, seed=self.seed)


def pairs_of(rows: Sequence[EvalRow], others: Sequence[EvalRow]) -> list[Pair]:
    """Return the rows of two arms for the same question and seed; one without the other is left out."""
    by_key: dict[RowKey, EvalRow] = {row.key: row for row in others}
    return [(row, by_key[row.key]) for row in rows if row.key in by_key]


def difference(pairs: Sequence[Pair], draws: Resampling) -> Json:
    """Return accuracy of the first arm less that of the second, and the ratio of their spends."""
    found = draws.mean((a, float(a.correct) - float(b.correct)) for a, b in pairs)
    spent = sum(b.spend for _, b in pairs)
    return {
        "mean": found and found.mean,
        "ci95": found and list(found.ci95),
        "spend_ratio": sum(a.spend for a, _ in pairs) / spent if spent else None,
    }


def noninferiority(pairs: Sequence[Pair], draws: Resampling) -> Json:
    """Return whether the first arm is, with 95 % confidence, at most the margin less accurate."""
    found = draws.mean((a, float(a.correct) - float(b.correct)) for a, b in pairs)
    return {
        "margin": MARGIN,
        "difference": found and found.mean,
        "lower95": found and found.lower95,
        "holds": None if found is None else found.lower95 >= -MARGIN,
    }


def saving_of(pairs: Sequence[Pair], draws: Resampling) -> Json:
    """Return the share of the uncapped spend that was saved, and what the saving is made of."""
    both = [
        metrics.SpendPair(b.spend, a.spend, right=b.correct, hit_limit=hit_limit(b))
        for a, b in pairs
    ]
    split = metrics.split_saving(both)
    return {
        **relative(pairs, draws),
        "right_uncapped": relative([pair for pair in pairs if pair[1].correct], draws),
        "split": None if split is None else asdict(split),
    }


def relative(pairs: Sequence[Pair], draws: Resampling) -> Json:
    """Return the share of the second arm's spend that the first one saved."""
    spent = _totals((a, a.spend) for a, _ in pairs)
    instead = _totals((a, b.spend) for a, b in pairs)
    found = draws.saving(spent, instead)
    return {"mean": found and found.mean, "ci95": found and list(found.ci95), "pairs": len(pairs)}


def hit_limit(row: EvalRow) -> bool:
    """Return whether the reply's token limit ended THINK."""
    return row.close_reason is CloseReason.MAX_TOKENS


def _by_prompt(values: Iterable[tuple[EvalRow, int | float]]) -> dict[str, float]:
    """Return the mean over its seeds for each prompt."""
    groups: dict[str, list[float]] = {}
    for row, value in values:
        groups.setdefault(row.question_id, []).append(float(value))
    return {prompt: sum(found) / len(found) for prompt, found in sorted(groups.items())}


def _totals(values: Iterable[tuple[EvalRow, int | float]]) -> dict[str, float]:
    """Return the sum over its seeds for each prompt."""
    groups: dict[str, float] = {}
    for row, value in values:
        groups[row.question_id] = groups.get(row.question_id, 0.0) + value
    return dict(sorted(groups.items()))
