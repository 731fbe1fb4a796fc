"""P12: is attention over blocks worth more than the last block, their mean or a fixed mixture?"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from metacog.eval.baselines.aggregators import AGGREGATORS, opinion_after_training
from metacog.eval.evidence import Evidence
from metacog.eval.proof.row import Json, Row, interval, missing
from metacog.model.scale import BudgetScale
from metacog.model.shape import LayerShape

TRAINING_SEEDS = (0, 1, 2)
GATE = "attention below none of last layer, mean, scalar mix (Brier, pinball)"


def p12(
    fit: Evidence,
    test: Evidence,
    shape: LayerShape,
    *,
    quantile: float,
    training_seeds: Sequence[int] = TRAINING_SEEDS,
) -> Row:
    """Return how much lower Brier and pinball loss are with attention than with each alternative.

    Losses are means over training seeds; a difference above 0 speaks for attention.
    """
    if np.isnan(test.need).all() or np.isnan(fit.need).all():
        return missing(GATE, "no reply has a need")
    losses = {
        name: _losses(name, fit, test, shape, quantile, training_seeds) for name in AGGREGATORS
    }
    known, questions = ~np.isnan(test.need), test.question
    against: Json = {}
    for name in (other for other in AGGREGATORS if other != "attention"):
        brier, pinball = (losses[name][i] - losses["attention"][i] for i in (0, 1))
        against[name] = {
            "brier": _with_interval(brier, questions),
            "pinball": _with_interval(pinball[known], questions[known]),
        }
    ends = [entry[kind]["ci95"][1] for entry in against.values() for kind in ("brier", "pinball")]
    worst = min(entry[kind]["mean"] for entry in against.values() for kind in ("brier", "pinball"))
    return Row(
        value=float(worst),
        n=len(set(questions.tolist())),
        seeds=tuple(sorted(set(test.seed.tolist()))),
        gate=GATE,
        met=all(end >= 0 for end in ends),
        bound=float(min(ends)),
        detail={
            "less_loss_than": against,
            "brier": {name: float(found[0].mean()) for name, found in losses.items()},
            "pinball": {name: float(found[1][known].mean()) for name, found in losses.items()},
            "training_seeds": list(training_seeds),
            "fitted_to": len(fit),
        },
    )


def _losses(
    name: str,
    fit: Evidence,
    test: Evidence,
    shape: LayerShape,
    quantile: float,
    training_seeds: Sequence[int],
) -> tuple[Float[ndarray, " rows"], Float[ndarray, " rows"]]:
    """Return the Brier and pinball loss of each reply, NaN where it has no need."""
    scale = BudgetScale(shape.budget_min, shape.budget_max, shape.budget_scale)
    target = np.array([_fraction(scale, need) for need in test.need])
    right = test.right_at(test.natural)
    brier, pinball = np.zeros(len(test)), np.zeros(len(test))
    for seed in training_seeds:
        said = opinion_after_training(name, shape, fit, test, quantile=quantile, seed=seed)
        short = target - said.fraction
        brier += (said.confidence - right) ** 2 / len(training_seeds)
        pinball += np.maximum(quantile * short, (quantile - 1) * short) / len(training_seeds)
    return brier, pinball


def _fraction(scale: BudgetScale, need: float) -> float:
    return float("nan") if np.isnan(need) else float(scale.fraction(torch.tensor(need)))


def _with_interval(difference: Float[ndarray, " rows"], questions: ndarray) -> Json:
    found = interval(questions.tolist(), lambda rows: float(difference[rows].mean()))
    assert found is not None
    return {"mean": float(difference.mean()), "ci95": list(found)}
