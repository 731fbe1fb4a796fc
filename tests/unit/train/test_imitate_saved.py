"""What an imitation logs of its gate, and what it saves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from metacog.config import parse
from metacog.config.decoding import BudgetConfig, DecodingConfig
from metacog.config.objective import ImitateObjective
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.decode.settings import engine_settings
from metacog.model.adapt import Adapted
from metacog.model.bundle import MetacogModel, load_model
from metacog.train.imitate import Imitation
from metacog.train.traces import SolvedTraces

MakeModel = Callable[..., MetacogModel]
BUDGET = BudgetConfig(min_tokens=2, max_tokens=24, min_think=3, answer_reserve=8)


def training_of(model: MetacogModel, *, with_gate: bool = True) -> Imitation:
    run = {"batch": 2, "objective": {"kind": "imitate"}}
    sections = {"metacog": {"proj_dim": 8}, "budget": BUDGET.model_dump(), "run": run}
    config = parse(sections, source="test")
    assert isinstance(config.run.objective, ImitateObjective)
    questions = draw_questions(Split.LAYER_TRAIN, 4, families=["chain_sum"])
    return Imitation(
        replace(model, decoding=DecodingConfig(budget=BUDGET)),
        model.gate if with_gate else None,
        Adapted(),
        config,
        config.run.objective,
        SolvedTraces(model.base, train=questions, validation=questions, size=2, seed=0),
    )


def test_what_is_saved_never_lowers_a_budget_on_what_was_not_learned(
    make_tiny_model: MakeModel, tiny_directory: Path, tmp_path: Path
) -> None:
    training_of(make_tiny_model()).save(tmp_path)
    found = load_model(tiny_directory, layer=tmp_path)
    assert BUDGET.revise
    assert BUDGET.reread == "lines"
    changed = {"revise": False, "reread": "none"}
    assert found.decoding.budget.model_dump() == BUDGET.model_dump() | changed
    settings = engine_settings(found).reread
    assert (settings.schedule, settings.revise) == ("none", False)


@pytest.mark.parametrize("with_gate", [True, False])
def test_a_step_says_what_the_gate_did(make_tiny_model: MakeModel, with_gate: bool) -> None:
    training = training_of(make_tiny_model(switch="always"), with_gate=with_gate)
    with training.step(training.parts(next(training.batches(0)))[0]) as result:
        pass
    found = {name for name in result.metrics if name.startswith("metacog/gate/")}
    names = {f"metacog/gate/{name}" for name in ("coverage", "norm", "saturation")}
    assert found == (names if with_gate else set())
    if with_gate:
        assert result.metrics["metacog/gate/coverage"] == 1.0
        assert 0 < result.metrics["metacog/gate/norm"] <= 0.5
