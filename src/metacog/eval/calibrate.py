"""Fits what turns raw outputs into honest ones: confidence, plan thresholds, budget clip and scale.

Labels of confidence are probabilities, exact ones, where each reply closes: a label p stands for a right
reply of weight p and a wrong one of weight 1 - p.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import GroupKFold

from metacog.model.fitted import ConfidenceMap

FACTORS = (0.05, 20.0)
"""Smallest and largest factor of a budget that a blob may hold."""
_TEMPERATURES = (0.051, 19.9)
_BIASES = (-20.0, 20.0)
_GAP = 1e-4
"""Knots nearer to each other than this are one."""


@dataclass(frozen=True)
class ConfidenceFit:
    """A map from logit to probability: sigmoid(logit / temperature + bias), then through the knots."""

    kind: ConfidenceMap
    temperature: float = 1.0
    bias: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()

    def __call__(self, logits: Float[ndarray, " rows"]) -> Float[ndarray, " rows"]:
        """Return the probabilities."""
        scaled = expit(logits / self.temperature + self.bias)
        if not self.knots:
            return np.asarray(scaled, dtype=np.float64)
        xs, ys = np.array(self.knots).T
        mapped: Float[ndarray, " rows"] = np.interp(scaled, xs, ys)
        return mapped


Fitter = Callable[[Float[ndarray, " rows"], Float[ndarray, " rows"]], ConfidenceFit]


def fit_temperature(
    logits: Float[ndarray, " rows"], right: Float[ndarray, " rows"]
) -> ConfidenceFit:
    """Fit the temperature alone, by cross-entropy."""
    return ConfidenceFit("temperature", temperature=_least_surprise(logits, right, bias=False)[0])


def fit_platt(logits: Float[ndarray, " rows"], right: Float[ndarray, " rows"]) -> ConfidenceFit:
    """Fit temperature and bias, by cross-entropy."""
    return ConfidenceFit("platt", *_least_surprise(logits, right, bias=True))


def fit_isotonic(logits: Float[ndarray, " rows"], right: Float[ndarray, " rows"]) -> ConfidenceFit:
    """Fit the map that never falls, by squared error; without spread in the logits it is Platt's."""
    fitted = IsotonicRegression(out_of_bounds="clip").fit(expit(logits), right)
    knots = _spread(fitted.X_thresholds_, fitted.y_thresholds_)
    return ConfidenceFit("isotonic", knots=knots) if len(knots) > 1 else fit_platt(logits, right)


FITTERS: Mapping[ConfidenceMap, Fitter] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}
"""From the simplest on: of maps that do as well the first is taken."""


def fit_confidence(
    logits: Float[ndarray, " rows"],
    right: Float[ndarray, " rows"],
    questions: Int[ndarray, " rows"],
    *,
    folds: int = 5,
) -> tuple[ConfidenceFit, dict[str, float]]:
    """Return the map with the lowest cross-validated Brier score, and the scores of all.

    Args:
        logits: Raw confidences at the enforced budgets.
        right: Probability of a right answer where each reply closes.
        questions: Rows of one question stay in one fold.
        folds: Parts that are left out in turn.
    """
    splits = list(GroupKFold(folds, shuffle=True, random_state=0).split(logits, groups=questions))
    scores = {
        kind: float(
            np.concatenate(
                [
                    _brier(fit(logits[seen], right[seen])(logits[held]), right[held])
                    for seen, held in splits
                ]
            ).mean()
        )
        for kind, fit in FITTERS.items()
    }
    best = min(FITTERS, key=lambda kind: scores[kind])
    return FITTERS[best](logits, right), scores | {
        "uncalibrated": float(_brier(expit(logits), right).mean())
    }


def fit_clip(need: Float[ndarray, " prompts"], allowed: tuple[float, float]) -> tuple[float, float]:
    """Return the range of the needs that were seen, in tokens, within what is allowed."""
    known = need[~np.isnan(need)]
    if len(known) == 0:
        return allowed
    low, high = (float(np.clip(end, *allowed)) for end in (known.min(), known.max()))
    return low, high


def covering_scale(
    budget: Float[ndarray, " prompts"],
    need: Float[ndarray, " prompts"],
    *,
    clip: tuple[float, float],
    level: float,
) -> float | None:
    """Return the smallest factor of the budgets that covers a share `level` of the needs.

    Split conformal prediction (Papadopoulos et al. 2002; Lei et al. 2018, section 2.2) with the score

        s_i = inf {s : round(clip(s B_i)) >= need_i}     scale = the ceil((n + 1) level)-th smallest s_i

    For a new question drawn like these, the probability that its need is covered, given that it has
    one, is `level` or more in the mean over calibrations, and at most 1 / (n + 1) above where scores
    differ. Neither clip nor budgets may have been fitted to these questions.

    Returns:
        The factor, at least the least that a blob may hold; None where there are too few needs for the
        level, too many of them lie beyond the clip, or the factor beyond what a blob may hold.
    """
    known = ~np.isnan(need)
    # The half token is what rounding gives; a hair more, since halves round to even numbers.
    scores = (need[known] - 0.5 + 1e-6) / budget[known]
    scores = np.where(need[known] <= clip[0], 0.0, scores)
    scores = np.where(need[known] > clip[1], np.inf, scores)
    rank = math.ceil((len(scores) + 1) * level)
    if rank > len(scores):
        return None
    least, most = FACTORS
    scale = max(least, float(np.sort(scores)[rank - 1]))
    return scale if scale <= most else None


def fit_plan_thresholds(
    plan: Float[ndarray, "prompts plans"], label: Int[ndarray, " prompts"], *, steps: int = 20
) -> tuple[float, ...]:
    """Return the least probability of each plan at which the labelled plan is chosen most often.

    Each plan's threshold is moved in turn on the even labelled prompts; all stay 0 unless the odd ones
    gain by it too.
    """
    labelled = np.flatnonzero(label >= 0)
    seen, held = labelled[::2], labelled[1::2]
    none = np.zeros(plan.shape[1])
    if len(held) == 0:
        return tuple(none.tolist())
    best = none
    for k in range(len(none)):
        tried = [_with(best, k, value) for value in np.linspace(0, 1, steps + 1)]
        best = max(tried, key=partial(_agreement, plan[seen], label[seen]))
    gains = _agreement(plan[held], label[held], best) > _agreement(plan[held], label[held], none)
    return tuple((best if gains else none).tolist())


def choose_plan(
    plan: Float[ndarray, "prompts plans"], thresholds: Float[ndarray, " plans"]
) -> Int[ndarray, " prompts"]:
    """Return the likeliest plan that passes its threshold, or the likeliest of all, as the blob does."""
    passes = plan >= thresholds
    best = np.where(passes, plan, -1.0).argmax(axis=1)
    chosen: Int[ndarray, " prompts"] = np.where(passes.any(axis=1), best, plan.argmax(axis=1))
    return chosen


def _agreement(
    plan: Float[ndarray, "prompts plans"],
    label: Int[ndarray, " prompts"],
    thresholds: Float[ndarray, " plans"],
) -> float:
    return float((choose_plan(plan, thresholds) == label).mean())


def _with(
    thresholds: Float[ndarray, " plans"], place: int, value: float
) -> Float[ndarray, " plans"]:
    changed = thresholds.copy()
    changed[place] = value
    return changed


def _brier(
    said: Float[ndarray, " rows"], right: Float[ndarray, " rows"]
) -> Float[ndarray, " rows"]:
    """Return the expected squared distance between what was said and the outcome."""
    distance: Float[ndarray, " rows"] = (said - right) ** 2 + right * (1 - right)
    return distance


def _least_surprise(
    logits: Float[ndarray, " rows"], right: Float[ndarray, " rows"], *, bias: bool
) -> tuple[float, float]:
    def surprise(values: Float[ndarray, " values"]) -> float:
        scaled = logits / np.exp(values[0]) + (values[1] if bias else 0.0)
        return float((np.logaddexp(0, scaled) - right * scaled).mean())

    low, high = (math.log(value) for value in _TEMPERATURES)
    bounds = [(low, high), _BIASES][: 2 if bias else 1]
    found = minimize(surprise, np.zeros(len(bounds)), bounds=bounds, method="L-BFGS-B").x
    return float(np.exp(found[0])), float(found[1]) if bias else 0.0


def _spread(
    xs: Float[ndarray, " knots"], ys: Float[ndarray, " knots"]
) -> tuple[tuple[float, float], ...]:
    """Return knots that lie apart; of those that do not the last height holds."""
    kept: list[tuple[float, float]] = []
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        height = min(max(y, 0.0), 1.0)
        if kept and x - kept[-1][0] < _GAP:
            kept[-1] = (kept[-1][0], height)
        else:
            kept.append((min(max(x, 0.0), 1.0), height))
    return tuple(kept)
