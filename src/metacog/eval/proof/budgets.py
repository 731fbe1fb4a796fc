"""P7: does the predicted budget know need, better than what needs no model?"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sklearn.ensemble import HistGradientBoostingRegressor

from metacog.data.tasks.families import FAMILIES
from metacog.eval import metrics
from metacog.eval.baselines.registry import BUDGETS
from metacog.eval.evidence import Evidence
from metacog.eval.proof.confidence import Asked, asked_of
from metacog.eval.proof.row import Row, all_met, at_least, interval, missing
from metacog.eval.proof.view import LayerView

OVERALL, WITHIN, LESS_ERROR = 0.6, 0.4, 0.10
FEWEST = 20
"""Needs without which nothing is said."""
GATE = (
    f"Spearman >= {OVERALL}; median within family >= {WITHIN}; MAE {LESS_ERROR:.0%} below ridge and "
    "gradient boosting"
)
_NAMES = tuple(FAMILIES)


def p7(fit: Evidence, test: Evidence, said: LayerView, said_of_fit: LayerView) -> Row:
    """Return rank correlation with need, over all and within families, and mean absolute errors.

    A budget is a high quantile of need. To compare errors it is brought to the median by a map that
    never falls, fitted by absolute error to the same replies as the baselines.
    """
    known = ~np.isnan(test.need)
    if known.sum() < FEWEST or (~np.isnan(fit.need)).sum() < FEWEST:
        return missing(GATE, f"fewer than {FEWEST} replies have a need")
    replies, need = test.at(known), test.need[known]
    budget = said.budget[known]
    predicted = {"layer": median_of(said_of_fit.budget, fit.need, budget)}
    predicted |= {name: predict(fit, replies) for name, predict in BUDGETS.items()}
    return budget_row(
        budget,
        need,
        predicted,
        [_NAMES[index] for index in replies.family],
        asked_of(replies),
        fitted_to=len(fit),
    )


def budget_row(
    budget: Float[ndarray, " rows"],
    need: Float[ndarray, " rows"],
    predicted: Mapping[str, Float[ndarray, " rows"]],
    families: Sequence[str],
    asked: Asked,
    *,
    fitted_to: int,
) -> Row:
    """Return P7 of replies whose need is known.

    Args:
        budget: Of the layer.
        need: THINK tokens.
        predicted: Median need as `layer` says it, and as each baseline does.
        families: Of the questions.
        asked: Which they are.
        fitted_to: Replies that all predictions were fitted to.
    """
    within = metrics.spearman_within(families, budget.tolist(), need.tolist())
    errors = {name: np.abs(found - need) for name, found in predicted.items()}
    value = metrics.spearman(budget.tolist(), need.tolist())
    best = min((name for name in errors if name != "layer"), key=lambda n: errors[n].mean())
    less = _less(errors["layer"], errors[best])
    return Row(
        value=value,
        ci95=interval(
            asked.question,
            lambda rows: metrics.spearman(budget[rows].tolist(), need[rows].tolist()),
        ),
        n=len(set(asked.question)),
        seeds=asked.seeds,
        gate=GATE,
        met=all_met(
            at_least(value, OVERALL), at_least(within.median, WITHIN), at_least(less, LESS_ERROR)
        ),
        detail={
            "spearman_within": within.median,
            "spearman_by_family": dict(within.by_family),
            "mae": {name: float(error.mean()) for name, error in errors.items()},
            "mae_below_best": less,
            "mae_below_best_ci95": interval(
                asked.question, lambda rows: _less(errors["layer"][rows], errors[best][rows])
            ),
            "best_baseline": best,
            "fitted_to": fitted_to,
        },
    )


def median_of(
    budget: Float[ndarray, " fit"], need: Float[ndarray, " fit"], new: Float[ndarray, " new"]
) -> Float[ndarray, " new"]:
    """Return the median need that goes with budgets, by a map that never falls."""
    known = ~np.isnan(need)
    model = HistGradientBoostingRegressor(
        loss="absolute_error", monotonic_cst=[1], max_iter=100, random_state=0
    )
    model.fit(budget[known][:, None], need[known])
    median: Float[ndarray, " new"] = model.predict(new[:, None])
    return median


def _less(error: Float[ndarray, " rows"], other: Float[ndarray, " rows"]) -> float | None:
    return float(1 - error.mean() / other.mean()) if other.mean() > 0 else None
