"""All rules of stopping on the same replies, set to spend the same."""

import numpy as np
import pytest

from metacog.eval.proof.stopping import stopping_rules
from tests.unit.eval.evidence import replies


def test_rules_with_a_knob_spend_what_they_are_given_and_the_oracle_is_best() -> None:
    natural = [10, 20, 30, 40]
    need = np.array([2.0, 4.0, 20.0, 30.0])
    right = (np.arange(41) >= need[:, None]).astype(float)
    ends = np.zeros((4, 41), dtype=bool)
    ends[:, ::2] = True
    found = replies(natural, need=need, right=right, line_end=ends)
    rules = stopping_rules(found, found, 20.0)
    assert rules["own_stopping"] == {"accuracy": 1.0, "think_tokens": 25.0}
    assert rules["first_check"] == rules["own_stopping"]  # no checks here
    # min(cap, natural) is 20 in the mean at a cap of 25: right but for the need of 30.
    assert rules["constant"]["think_tokens"] == pytest.approx(20, abs=0.01)
    assert rules["constant"]["accuracy"] == pytest.approx(0.75)
    assert rules["label"]["think_tokens"] == pytest.approx(20, abs=0.01)
    assert rules["oracle"]["accuracy"] == 1.0
    assert rules["oracle"]["think_tokens"] <= 20
