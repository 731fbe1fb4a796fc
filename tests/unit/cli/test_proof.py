"""The P table of a tiny model, from one command's parts to JSON."""

import json
from dataclasses import replace

import pytest

from metacog.cli.evaluate import parse_split
from metacog.cli.margins import Beside, margin_rows, margin_summaries_of
from metacog.cli.measure import Size, bare_of, measure
from metacog.cli.proof import ProofSize, prove
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.errors import InputError
from metacog.eval.proof.table import NAMES


@pytest.fixture(scope="module")
def measured(make_tiny_model):
    model = make_tiny_model(calibration={"coverage_scale": 1.5})
    budget = model.decoding.budget.model_copy(update={"max_tokens": 24, "answer_reserve": 8})
    model = replace(model, decoding=model.decoding.model_copy(update={"budget": budget}))
    size = Size(n=6, matching=4, seeds=(0,), families=("gcd", "ab"), split=Split.VALIDATION)
    measurement, summary = measure(model, size)
    return model, measurement, summary, size


PROOF = ProofSize(fit=12, margin=10, test=8, plans=4, peers=8, trials=4)


@pytest.fixture(scope="module")
def found(measured):
    model, measurement, summary, size = measured
    return summary, prove(model, measurement, summary, size, PROOF)


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
    # Nothing right either to train the gate's peers on.
    assert table["P11"]["not_measured"] == ["ia3", "lora"]
    assert "random_gate" in table["P11"]["against"]


def test_rules_of_stopping_stand_beside_the_learned_budgets(found) -> None:
    _, table = found
    rules = table["P3"]["stopping_rules"]
    assert {"own_stopping", "oracle", "trial_answers", "self_consistency"} <= set(rules)
    assert rules["self_consistency"]["votes"] == 3


def test_half_a_point_has_questions_of_its_own(found) -> None:
    _, table = found
    for name in ("P1", "P2", "P10"):
        assert (table[name]["n"], table[name]["seeds"]) == (10, [0])
    assert table["P9"]["n"] == 10


def like(measured, model):
    return replace(model, decoding=measured[0].decoding)


def margins(measured, beside: Beside):
    model, measurement, summary, size = measured
    bare = bare_of(model, beside.against) or model
    found = margin_summaries_of(
        model,
        bare,
        beside,
        draw_questions(size.split, PROOF.margin, families=size.families),
        (0,),
        cheapest=measurement.fixed.cheapest_constant,
        natural_over_need=summary["budget"]["natural_over_need"],
    )
    return margin_rows(found, model, beside)


def test_a_trained_base_is_not_its_own_frozen_one(measured, make_tiny_model) -> None:
    before = like(measured, make_tiny_model(spread=3.0))
    rows = margins(measured, Beside(against=before))
    assert rows["P2"].detail["missing"] == "name one with --frozen"
    assert margins(measured, Beside(against=before, frozen=before))["P2"].n == 10


def test_a_trained_model_stands_for_the_model_in_p1_and_p10(measured, make_tiny_model) -> None:
    own = margins(measured, Beside())
    trained = like(measured, make_tiny_model(spread=3.0))
    other = margins(measured, Beside(trained=trained))
    assert other["P1"].value != own["P1"].value
    assert other["P1"].detail["base_sha256"] == trained.base.digest
    assert other["P2"].detail["base_sha256"] == measured[0].base.digest
    assert other["P1"].detail["levels"]["learned"]["spend_mean"] > 0
    assert other["P2"] == own["P2"]
    assert other["P10"].bound is not None


def test_splits_that_something_was_fitted_to_are_refused() -> None:
    assert parse_split("validation") is Split.VALIDATION
    with pytest.raises(InputError, match="--split"):
        parse_split("calibration")
