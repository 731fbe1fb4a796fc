"""Where each rule of stopping would close traces that can be followed on paper."""

import numpy as np
import pytest

from metacog.eval.baselines import (
    constant,
    entropy_threshold,
    first_check,
    label,
    oracle,
    own_stopping,
)
from tests.unit.eval.evidence import replies


def marked(places, width: int = 11) -> np.ndarray:
    table = np.zeros((len(places), width), dtype=bool)
    for row, found in enumerate(places):
        table[row, list(found)] = True
    return table


def test_the_base_stops_where_it_stops() -> None:
    assert own_stopping.stop(replies([10, 4])).tolist() == [10, 4]


def test_thinking_closes_behind_its_first_check_or_at_its_end() -> None:
    found = replies([10, 4, 6], check_mark=marked([{5, 8}, {4}, set()]))
    assert first_check.stop(found).tolist() == [5, 4, 6]


def test_thinking_closes_at_the_first_line_end_where_the_base_is_sure() -> None:
    entropy = np.ones((2, 11))
    entropy[0, [2, 3, 7]] = 0.1, 0.3, 0.2  # 2 is no line end
    found = replies([10, 6], line_end=marked([{3, 7, 10}, {3, 6}]), entropy=entropy)
    assert entropy_threshold.stop(found, 0.25).tolist() == [7, 6]
    assert entropy_threshold.stop(found, 0.3).tolist() == [3, 6]
    assert entropy_threshold.stop(found, 1.0).tolist() == [3, 3]
    threshold = entropy_threshold.threshold_for(found, 6.5)
    assert entropy_threshold.stop(found, threshold).mean() == 6.5


def test_a_constant_cap_is_found_for_any_mean_spend() -> None:
    found = replies([10, 4])
    assert constant.cap_for(found, 5.0) == pytest.approx(6.0, abs=0.01)  # (6 + 4) / 2
    assert constant.caps(found, 6.0).tolist() == [6, 6]


def test_a_label_budget_is_the_familys_mean_need() -> None:
    fit = replies(
        [10, 20, 8, 6], family=np.array([0, 0, 1, 1]), need=np.array([4.0, np.nan, np.nan, np.nan])
    )
    new = replies([9, 9, 9], family=np.array([1, 0, 2]))
    assert label.caps(fit, new).tolist() == [7, 4, 5.5]  # no need in family 1: its natural length
    assert label.caps(fit, new, 2.0).tolist() == [14, 8, 11]


def test_an_oracle_closes_where_it_is_best_and_soonest() -> None:
    right = np.array([[0.0, 0.2, 0.9, 0.9, 0.5], [0.1, 0.1, 0.1, 0.1, 0.1]])
    found = replies([4, 3], right=right)
    assert oracle.stop(found).tolist() == [2, 0]
    assert oracle.stop(found, price=0.5).tolist() == [0, 0]
