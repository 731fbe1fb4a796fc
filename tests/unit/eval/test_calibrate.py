"""Fits whose answer is known."""

import numpy as np
import pytest
from scipy.special import expit

from metacog.eval.calibrate import (
    choose_plan,
    covering_scale,
    fit_clip,
    fit_confidence,
    fit_isotonic,
    fit_plan_thresholds,
    fit_platt,
    fit_temperature,
)
from metacog.eval.metrics import ece

LOGITS = np.random.default_rng(0).normal(size=4000) * 3


def test_temperature_and_bias_are_found_again() -> None:
    assert fit_temperature(LOGITS, expit(LOGITS / 2.5)).temperature == pytest.approx(2.5, rel=1e-3)
    fit = fit_platt(LOGITS, expit(LOGITS / 0.5 - 1))
    assert (fit.temperature, fit.bias) == pytest.approx((0.5, -1), rel=1e-3)


def test_the_simplest_map_that_does_best_is_chosen() -> None:
    questions = np.arange(len(LOGITS))
    outcomes = np.random.default_rng(1).random(len(LOGITS))

    def kind_for(probability) -> str:
        return fit_confidence(LOGITS, (outcomes < probability).astype(float), questions)[0].kind

    assert kind_for(expit(LOGITS / 2 - 2)) == "platt"
    assert kind_for(np.where(LOGITS > 1, 0.9, np.where(LOGITS > -2, 0.5, 0.45))) == "isotonic"
    fit, scores = fit_confidence(LOGITS, expit(LOGITS / 3), questions)
    assert fit.kind == "temperature"
    assert (
        scores["temperature"] <= min(scores["platt"], scores["isotonic"]) < scores["uncalibrated"]
    )


def test_a_fitted_map_is_calibrated_on_other_outcomes() -> None:
    rng = np.random.default_rng(2)
    truth = np.where(LOGITS > 0, 0.8, 0.3)
    fit = fit_isotonic(LOGITS[:2000], (rng.random(2000) < truth[:2000]).astype(float))
    right = (rng.random(2000) < truth[2000:]).tolist()
    raw, mapped = (x.tolist() for x in (expit(LOGITS[2000:]), fit(LOGITS[2000:])))
    assert ece(mapped, right) < 0.05 < 0.1 < ece(raw, right)


def test_knots_rise_and_lie_apart() -> None:
    right = np.random.default_rng(3).random(4000) < expit(LOGITS)
    knots = fit_isotonic(LOGITS, right.astype(float)).knots
    xs, ys = np.array(knots).T
    assert len(knots) > 5
    assert np.diff(xs).min() >= 1e-4
    assert np.diff(ys).min() >= 0


def test_the_covering_scale_is_the_right_order_statistic() -> None:
    need, budget = np.arange(1, 20) * 10.0, np.full(19, 10.0)
    clip = (1.0, 1000.0)
    # rank = ceil(20 * .9) = 18: need 180 is covered after rounding, 190 is not.
    scale = covering_scale(budget, need, clip=clip, level=0.9)
    assert round(10 * scale) == 180
    assert round(10 * (scale - 1e-4)) == 179
    assert covering_scale(budget[:8], need[:8], clip=clip, level=0.9) is None
    assert covering_scale(budget, need, clip=(1.0, 100.0), level=0.9) is None
    missing = np.where(need > 100, np.nan, need)
    assert round(10 * covering_scale(budget, missing, clip=clip, level=0.8)) == 90


def test_coverage_holds_on_new_questions_over_resplits() -> None:
    rng = np.random.default_rng(4)
    budget = rng.uniform(5, 100, 4000)
    need = np.ceil(budget * rng.lognormal(0, 0.5, 4000))
    covered = []
    for _ in range(200):
        order = rng.permutation(4000)
        seen, new = order[:300], order[300:]
        scale = covering_scale(budget[seen], need[seen], clip=(1.0, 1e5), level=0.9)
        covered.append((np.round(budget[new] * scale) >= need[new]).mean())
    assert np.mean(covered) + 0.002 >= 0.9
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)


def test_the_clip_is_the_range_of_needs_within_what_is_allowed() -> None:
    need = np.array([np.nan, 3.0, 50.0, 400.0])
    assert fit_clip(need, (1.0, 320.0)) == (3.0, 320.0)
    assert fit_clip(need[:1], (1.0, 320.0)) == (1.0, 320.0)


def test_plan_thresholds_mend_a_plan_that_is_named_too_often() -> None:
    rng = np.random.default_rng(5)
    label = rng.integers(0, 2, 400)
    first = np.where(label == 0, rng.uniform(0.7, 0.9, 400), rng.uniform(0.52, 0.66, 400))
    plan = np.stack([first, 1 - first], axis=1)
    thresholds = np.array(fit_plan_thresholds(plan, label))
    assert (plan.argmax(axis=1) == label).mean() < 0.6
    assert (choose_plan(plan, thresholds) == label).mean() > 0.95


def test_plan_thresholds_stay_where_nothing_is_gained() -> None:
    rng = np.random.default_rng(6)
    plan = rng.dirichlet([1, 1, 1], 300)
    assert fit_plan_thresholds(plan, plan.argmax(axis=1)) == (0, 0, 0)
    assert fit_plan_thresholds(plan, np.full(300, -1)) == (0, 0, 0)
