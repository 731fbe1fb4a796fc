from itertools import product

import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from metacog.eval.bootstrap import (
    ci95,
    mean_interval,
    resampled_means,
    saving_interval,
    statistic_ci95,
)


def test_the_draws_are_fixed_by_the_seed() -> None:
    values = np.random.default_rng(0).normal(size=(50, 2))
    first = resampled_means(values, resamples=30, seed=4)
    assert np.array_equal(first, resampled_means(values, resamples=30, seed=4))
    assert not np.array_equal(first, resampled_means(values, resamples=30, seed=5))


def test_columns_are_drawn_together() -> None:
    column = np.random.default_rng(0).normal(size=40)
    drawn = resampled_means(np.stack([column, 2 * column + 1], axis=1), resamples=200)
    assert drawn[:, 1] == pytest.approx(2 * drawn[:, 0] + 1)
    assert drawn.shape == (200, 2)


def test_many_prompts_are_drawn_in_parts() -> None:
    drawn = resampled_means(np.ones((300_000, 1)), resamples=20)
    assert drawn.shape == (20, 1)
    assert np.all(drawn == 1)


def test_the_interval_agrees_with_theory_and_with_scipy() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, size=400)
    found = mean_interval({str(i): v for i, v in enumerate(values.tolist())}, resamples=20_000)
    assert found is not None
    assert found.mean == pytest.approx(values.mean())
    error = values.std() / np.sqrt(len(values))
    half = norm.ppf(0.975) * error
    assert found.ci95 == pytest.approx((values.mean() - half, values.mean() + half), abs=0.005)
    assert found.lower95 == pytest.approx(values.mean() - norm.ppf(0.95) * error, abs=0.005)
    theirs = bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=0)
    assert found.ci95 == pytest.approx(tuple(theirs.confidence_interval), abs=0.01)


def test_three_prompts_have_the_means_that_all_draws_have() -> None:
    values = {"a": 0.0, "b": 1.0, "c": 5.0}
    every = sorted({sum(draw) / 3 for draw in product(values.values(), repeat=3)})
    drawn = resampled_means(np.array([[v] for v in values.values()]), resamples=4000)
    assert sorted(set(np.round(drawn[:, 0], 9))) == pytest.approx(every)


def test_a_saving_is_one_less_the_ratio_of_the_sums() -> None:
    found = saving_interval({"a": 30.0, "b": 10.0}, {"a": 50.0, "b": 30.0})
    assert found is not None
    assert found.mean == pytest.approx(0.5)
    assert found.ci95 == (pytest.approx(0.4), pytest.approx(2 / 3))


def test_a_saving_of_the_same_share_everywhere_has_no_width() -> None:
    instead = {str(i): float(i + 1) for i in range(30)}
    found = saving_interval({key: 0.7 * value for key, value in instead.items()}, instead)
    assert found is not None
    assert found.ci95 == (pytest.approx(0.3), pytest.approx(0.3))


def test_nothing_has_no_interval() -> None:
    assert mean_interval({}) is None
    assert saving_interval({}, {}) is None
    assert saving_interval({"a": 0.0}, {"a": 0.0}) is None
    assert statistic_ci95([], lambda _: 1.0) is None
    with pytest.raises(ValueError, match="one prompt or more"):
        resampled_means(np.zeros((0, 1)))
    with pytest.raises(ValueError, match="same prompts"):
        saving_interval({"a": 1.0}, {"b": 1.0})


def test_the_rows_of_a_prompt_are_drawn_together() -> None:
    values = np.array([1.0, -1.0, 2.0, -2.0, 3.0, -3.0])
    prompts = ["a", "a", "b", "b", "c", "c"]
    # Every prompt sums to 0, so that a draw by prompts always has mean 0; one by rows has not.
    found = statistic_ci95(prompts, lambda rows: float(values[rows].mean()))
    assert found == (0.0, 0.0)


def test_a_statistic_that_is_missing_in_some_draws_is_left_out_there() -> None:
    def of_first(rows: np.ndarray) -> float | None:
        return 2.0 if 0 in rows else None

    assert statistic_ci95(["a", "b"], of_first, resamples=50) == (2.0, 2.0)
    assert statistic_ci95(["a", "b"], lambda _: None, resamples=5) is None


def test_percentiles() -> None:
    assert ci95(np.arange(1001, dtype=np.float64)) == (25.0, 975.0)
