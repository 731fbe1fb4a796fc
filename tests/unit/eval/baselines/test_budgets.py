"""Budgets from operands, where need is a function of them."""

import numpy as np
import pytest

from metacog.eval.baselines.operands import columns
from metacog.eval.baselines.registry import BUDGETS
from metacog.eval.evidence import operands_of
from tests.unit.eval.evidence import replies


def grown(seed: int, n: int = 400):
    rng = np.random.default_rng(seed)
    first = rng.integers(1, 50, n).astype(float)
    operands = np.full((n, 8), np.nan)
    operands[:, 0] = first
    return replies([100] * n, operands=operands, need=2 * first + 1)


@pytest.mark.parametrize("name", BUDGETS)
def test_need_is_found_from_the_operand_it_follows(name) -> None:
    fit, new = grown(0), grown(1)
    missing = fit.need.copy()
    missing[::5] = np.nan
    said = BUDGETS[name](replies([100] * 400, operands=fit.operands, need=missing), new)
    assert np.abs(said - new.need).mean() < 0.2 * np.abs(np.median(fit.need) - new.need).mean()
    assert said.min() >= 1


def test_operands_are_the_numbers_in_order() -> None:
    found = operands_of("What is 12 + 7, and 3?")
    assert found[:3] == [12, 7, 3]
    assert np.isnan(found[3:]).all()


def test_columns_are_families_length_and_operands() -> None:
    row = columns(replies([4], family=np.array([2]), prompt_tokens=np.array([9.0])))[0]
    assert row[:9].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 9]
    assert len(row) == 17
