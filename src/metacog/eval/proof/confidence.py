"""P8 and P9: does confidence rank replies better than its peers, and is it honest?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from metacog.eval import metrics
from metacog.eval.baselines.logistic import Predictor
from metacog.eval.baselines.registry import AT_CLOSER, AT_PROMPT
from metacog.eval.evidence import Evidence
from metacog.eval.proof.row import Json, Row, all_met, at_least, interval
from metacog.eval.proof.view import LayerView

ABOVE, LEAST, MOST_ECE, ENOUGH = 0.03, 0.75, 0.05, 5000
COVERAGE, SLACK = 0.90, 0.02
GATE_AT_PROMPT = f"AUROC >= {LEAST}, and {ABOVE} above the best prompt-side baseline"
GATE_AT_CLOSER = f"AUROC {ABOVE} above the best answer-side baseline"


@dataclass(frozen=True)
class Asked:
    """The replies that rows are about."""

    question: Sequence[str]
    """Id of each reply's question."""
    seeds: tuple[int, ...]
    """Sampling seeds of all."""
    correct: Bool[ndarray, " rows"]


def asked_of(test: Evidence) -> Asked:
    """Return the replies of some evidence."""
    return Asked(test.question.tolist(), tuple(sorted(set(test.seed.tolist()))), test.correct)


def p8a(fit: Evidence, test: Evidence, said: LayerView) -> Row:
    """Return the AUROC of confidence at the prompt, and by how much it beats the best baseline."""
    return high_enough(_against(said.confidence, AT_PROMPT, fit, test, GATE_AT_PROMPT))


def p8b(fit: Evidence, test: Evidence, said: LayerView) -> Row:
    """Return the AUROC of confidence at the closer, and by how much it beats the best baseline."""
    return _against(said.ready, AT_CLOSER, fit, test, GATE_AT_CLOSER)


def p9(
    confidence: Json, test: Evidence, said: LayerView, *, confidence_seeds: tuple[int, ...]
) -> Row:
    """Return calibration error and skill of confidence, and how many needs the covering budget covers.

    Args:
        confidence: Its figures on the replies of the learned arm, `confidence_block`'s.
        test: Uncapped replies, for the needs.
        said: What the layer says of them.
        confidence_seeds: Sampling seeds of those replies of the learned arm.
    """
    known = ~np.isnan(test.need)
    covered = (
        said.covering[known] >= test.need[known]
        if said.covering is not None and known.any()
        else None
    )
    share = None if covered is None else float(covered.mean())
    ece, skill, n = confidence["ece"], confidence["brier_skill"], confidence["n"]
    honest = None if ece is None else ece <= MOST_ECE and n >= ENOUGH
    return Row(
        value=ece,
        n=n,
        seeds=confidence_seeds,
        gate=f"Brier skill > 0; ECE <= {MOST_ECE} at n >= {ENOUGH}; coverage {COVERAGE} +- {SLACK}",
        met=all_met(
            honest,
            None if skill is None else skill > 0,
            None if share is None else abs(share - COVERAGE) <= SLACK,
        ),
        bound=MOST_ECE,
        detail={
            "brier_skill": skill,
            "coverage": share,
            "coverage_ci95": None
            if covered is None
            else interval(test.question[known].tolist(), lambda rows: float(covered[rows].mean())),
            "coverage_n": int(known.sum()),
            "coverage_seeds": sorted(set(test.seed.tolist())),
        },
    )


def _against(
    score: Float[ndarray, " rows"],
    baselines: Mapping[str, Predictor],
    fit: Evidence,
    test: Evidence,
    gate: str,
) -> Row:
    scores = {name: predict(fit, test) for name, predict in baselines.items()}
    return ranked(score, scores, asked_of(test), gate=gate, fitted_to=len(fit))


def ranked(
    score: Float[ndarray, " rows"],
    scores: Mapping[str, Float[ndarray, " rows"]],
    asked: Asked,
    *,
    gate: str,
    fitted_to: int,
) -> Row:
    """Return the AUROC of some scores of replies, and by how much it beats the best of others."""
    right = asked.correct
    aurocs = {name: _auroc(found, right) for name, found in scores.items()}
    value = _auroc(score, right)
    known = {name: found for name, found in aurocs.items() if found is not None}
    best = max(known, key=lambda name: known[name], default=None)
    above = None if value is None or best is None else value - known[best]

    def margin(rows: ndarray) -> float | None:
        own, other = (_auroc(found[rows], right[rows]) for found in (score, scores[str(best)]))
        return None if own is None or other is None else own - other

    return Row(
        value=value,
        ci95=interval(asked.question, lambda rows: _auroc(score[rows], right[rows])),
        n=len(set(asked.question)),
        seeds=asked.seeds,
        gate=gate,
        met=at_least(above, ABOVE),
        detail={
            "above_best": above,
            "above_best_ci95": None if best is None else interval(asked.question, margin),
            "best_baseline": best,
            "baselines": aurocs,
            "brier": metrics.brier(score.tolist(), right.tolist()),
            "fitted_to": fitted_to,
        },
    )


def _auroc(score: Float[ndarray, " rows"], right: ndarray) -> float | None:
    return metrics.auroc(score.tolist(), right.tolist())


def high_enough(row: Row) -> Row:
    """Return P8a's row, met only where the AUROC itself reaches its gate too."""
    return replace(row, met=all_met(row.met, at_least(row.value, LEAST)))
