"""The P table of a tiny model, from one command's parts to JSON."""

import json
from dataclasses import replace

import pytest

from metacog.cli.evaluate import parse_split
from metacog.cli.measure import Size, measure
from metacog.cli.proof import ProofSize, prove_all
from metacog.data.tasks.splits import Split
from metacog.errors import InputError
from metacog.eval.proof.table import NAMES


@pytest.fixture(scope="module")
def found(make_tiny_model):
    model = make_tiny_model(calibration={"coverage_scale": 1.5})
    budget = model.decoding.budget.model_copy(update={"max_tokens": 24, "answer_reserve": 8})
    model = replace(model, decoding=model.decoding.model_copy(update={"budget": budget}))
    size = Size(n=6, matching=4, seeds=(0,), families=("gcd", "ab"), split=Split.VALIDATION)
    measured, summary = measure(model, size)
    proof = ProofSize(fit=12, test=8, plans=4, trials=4)
    return summary, prove_all(model, None, model, measured, summary, size, proof)


def test_every_row_is_there_and_is_json(found) -> None:
    summary, table = found
    parsed = json.loads(json.dumps({**summary, **table}, allow_nan=False))
    assert parsed["split"] == "validation"
    for name in NAMES:
        assert set(parsed[name]) >= {"value", "ci95", "bound", "n", "seeds", "gate", "met"}


def test_what_cannot_be_measured_is_missing_and_not_met(found) -> None:
    _, table = found
    # Random weights answer nothing right: no reply has a need.
    assert table["P7"]["missing"] == "fewer than 20 replies have a need"
    assert (table["P7"]["value"], table["P7"]["met"]) == (None, None)
    assert table["P9"]["coverage"] is None
    assert table["P11"]["not_measured"] == ["ia3", "lora"]
    assert "random_gate" in table["P11"]["against"]


def test_rules_of_stopping_stand_beside_the_learned_budgets(found) -> None:
    _, table = found
    rules = table["P3"]["stopping_rules"]
    assert {"own_stopping", "oracle", "trial_answers", "self_consistency"} <= set(rules)
    assert rules["self_consistency"]["votes"] == 3


def test_splits_that_something_was_fitted_to_are_refused() -> None:
    assert parse_split("validation") is Split.VALIDATION
    with pytest.raises(InputError, match="--split"):
        parse_split("calibration")
