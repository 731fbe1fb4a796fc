"""What the rows of one arm say: how right it is, what it spends, what its readings are worth."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from metacog.eval import metrics
from metacog.eval.bootstrap import statistic_ci95
from metacog.eval.contrasts import Json, Resampling, hit_limit
from metacog.eval.rows import EvalRow
from metacog.eval.runner import ReadyPoint
from metacog.records import CloseReason


def level(rows: Sequence[EvalRow], draws: Resampling) -> Json:
    """Return what every arm has: how right it is and what it spends."""
    accuracy = draws.mean((row, row.correct) for row in rows)
    spend = draws.mean((row, row.spend) for row in rows)
    return {
        "accuracy": metrics.mean(row.correct for row in rows),
        "accuracy_ci95": accuracy and list(accuracy.ci95),
        "think_tokens_mean": metrics.mean(row.used for row in rows),
        "answer_tokens_mean": metrics.mean(row.answer_tokens for row in rows),
        "spend_mean": metrics.mean(row.spend for row in rows),
        "spend_ci95": spend and list(spend.ci95),
        "close_reasons": metrics.shares(row.close_reason for row in rows) if rows else None,
        "escapes": _escapes(rows),
    }


def _escapes(rows: Sequence[EvalRow]) -> Json:
    forced = [r for r in rows if r.close_reason not in (None, CloseReason.NATURAL)]
    return {
        "any": metrics.mean(row.escaped for row in rows),
        "after_forced_close": metrics.mean(row.escaped for row in forced),
        "no_answer_after_forced_close": metrics.mean(
            row.no_answer_after_forced_close for row in forced
        ),
        "empty": metrics.mean(row.answer_empty for row in rows),
        "tag": metrics.mean(row.answer_has_tag for row in rows),
        "runs_on": metrics.mean(row.answer_runs_on for row in rows),
        "forced_closes": len(forced),
    }


def outcomes(uncapped: Sequence[EvalRow]) -> Json:
    """Return how uncapped replies end: need exists for the answered ones only."""
    counts = Counter(
        "censored" if hit_limit(row) else "hopeless" if row.need is None else "answered"
        for row in uncapped
    )
    return {"outcomes": {name: counts[name] for name in ("answered", "hopeless", "censored")}}


def budget_block(rows: Sequence[EvalRow], uncapped: Sequence[EvalRow], draws: Resampling) -> Json:
    """Return how well the predicted budget knows need, on replies that are right uncapped."""
    known = [row for row in rows if row.need is not None and row.predicted is not None]
    needs = [float(row.need) for row in known if row.need is not None]
    predicted = [float(row.predicted) for row in known if row.predicted is not None]
    first, second = np.array(predicted), np.array(needs)
    within = metrics.spearman_within([row.family for row in known], predicted, needs)
    return {
        "n": len(known),
        "spearman": metrics.spearman(predicted, needs),
        "spearman_ci95": _listed(
            statistic_ci95(
                [row.question_id for row in known],
                lambda drawn: metrics.spearman(first[drawn].tolist(), second[drawn].tolist()),
                resamples=draws.resamples // 4,
                seed=draws.seed,
            )
        ),
        "spearman_within": within.median,
        "spearman_by_family": dict(within.by_family),
        "mae": metrics.mean_absolute_error(predicted, needs),
        "coverage": metrics.coverage(
            [row.need for row in known if row.need is not None], [row.enforced for row in known]
        ),
        "predicted_mean": metrics.mean(predicted),
        "need_mean": metrics.mean(needs),
        "natural_over_need": _natural_over_need(uncapped),
    }


def _natural_over_need(uncapped: Sequence[EvalRow]) -> float | None:
    known = [row for row in uncapped if row.need is not None]
    need = sum(row.need for row in known if row.need is not None)
    return sum(row.used for row in known) / need if need else None


def confidence_block(rows: Sequence[EvalRow], draws: Resampling) -> Json:
    """Return how well the confidence at the prompt knows whether the answer will be right."""
    known = [row for row in rows if row.confidence is not None]
    scores = [row.confidence for row in known if row.confidence is not None]
    right = [row.correct for row in known]
    first, second = np.array(scores), np.array(right)
    return {
        "n": len(known),
        "auroc": metrics.auroc(scores, right),
        "auroc_ci95": _listed(
            statistic_ci95(
                [row.question_id for row in known],
                lambda drawn: metrics.auroc(first[drawn].tolist(), second[drawn].tolist()),
                resamples=draws.resamples // 4,
                seed=draws.seed,
            )
        ),
        "brier": metrics.brier(scores, right),
        "brier_skill": metrics.brier_skill(scores, right),
        "ece": metrics.ece(scores, right),
        "mean": metrics.mean(scores),
    }


def closer_block(rows: Sequence[EvalRow], uncapped: Sequence[EvalRow]) -> Json:
    """Return how well the last re-reading before the closer knows whether the answer is right."""
    return {"auroc": _ready_auroc(rows), "auroc_uncapped": _ready_auroc(uncapped)}


def _ready_auroc(rows: Sequence[EvalRow]) -> float | None:
    known = [row for row in rows if row.ready_at_close is not None]
    scores = [row.ready_at_close for row in known if row.ready_at_close is not None]
    return metrics.auroc(scores, [row.correct for row in known])


def ready_block(points: Sequence[ReadyPoint]) -> Json:
    """Return how well a re-reading anywhere in THINK knows whether closing there is right."""
    scores, right = [p.ready for p in points], [p.right for p in points]
    return {
        "auroc": metrics.expected_auroc(scores, right),
        "n": len(points),
        "ready_mean": metrics.mean(scores),
        "right_mean": metrics.mean(right),
    }


def family_block(rows: Sequence[EvalRow], uncapped: Sequence[EvalRow]) -> Json:
    """Return the figures of one family under a learned arm and uncapped."""
    needs = [row.need for row in uncapped if row.need is not None]
    return {
        "n": len({row.question_id for row in [*rows, *uncapped]}),
        "domain": str([*rows, *uncapped][0].domain),
        "accuracy": metrics.mean(row.correct for row in rows),
        "spend_mean": metrics.mean(row.spend for row in rows),
        "think_tokens_mean": metrics.mean(row.used for row in rows),
        "predicted_mean": metrics.mean(r.predicted for r in rows if r.predicted is not None),
        "uncapped_accuracy": metrics.mean(row.correct for row in uncapped),
        "uncapped_spend_mean": metrics.mean(row.spend for row in uncapped),
        "need_mean": metrics.mean(needs),
        "natural_over_need": _natural_over_need(uncapped),
    }


def _listed(ci95: tuple[float, float] | None) -> list[float] | None:
    return None if ci95 is None else list(ci95)
