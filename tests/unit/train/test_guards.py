from pathlib import Path

import pytest

from metacog.config import RunConfig, parse
from metacog.errors import RunError
from metacog.model.bundle import MetacogModel
from metacog.telemetry.rundir import RunDir
from metacog.train.guards import BUDGET_ERROR, MAX_LEN, OPINIONS, THINKING, Guards, guards_for


def configured(kind: str, **losses: float) -> RunConfig:
    return parse({"losses": losses, "run": {"objective": {"kind": kind}}}, source="test")


@pytest.mark.parametrize(
    ("kind", "wanted", "is_gated"),
    [
        ("pretrain", (), False),
        ("gate", (THINKING,), True),
        ("reread", (THINKING, *OPINIONS), False),
        ("layer", (THINKING, BUDGET_ERROR, *OPINIONS), False),
        ("imitate", (THINKING, BUDGET_ERROR, *OPINIONS), True),
        ("practice", (THINKING, BUDGET_ERROR, *OPINIONS), True),
    ],
)
def test_what_is_demanded_of_each_objective(
    kind: str, wanted: tuple[str, ...], is_gated: bool, tiny_model: MetacogModel
) -> None:
    guards = guards_for(configured(kind), tiny_model)
    assert guards.wanted == wanted
    assert (guards.serving is tiny_model) == is_gated
    without = guards_for(configured(kind, lambda_budget_reg=0.0), tiny_model)
    assert without.wanted == tuple(name for name in wanted if name != BUDGET_ERROR)


def test_a_metric_must_be_a_number() -> None:
    guards = Guards(wanted=("a",))
    guards.after(1, {"a": 0.0})
    for metrics in ({}, {"a": float("nan")}, {"a": float("inf")}):
        with pytest.raises(
            RunError, match=r"Wanted a in the metrics of step 2, got (nothing|nan|inf)"
        ):
            guards.after(2, metrics)


def test_max_len_may_stay_and_rise() -> None:
    guards = Guards()
    for value in (5.0, 5.0, 7.0):
        guards.after(1, {MAX_LEN: value})
    guards.after(2, {})
    with pytest.raises(RunError, match="got 6 after 7 at step 3"):
        guards.after(3, {MAX_LEN: 6.0})


def test_checkpoints_are_looked_for_where_they_are_due(tmp_path: Path) -> None:
    run, guards = RunDir(tmp_path), Guards(save_interval=4)
    for step in (1, 2, 3):
        guards.on_save(run, step)
    run.checkpoint(4).mkdir()
    with pytest.raises(RunError, match="Wanted a checkpoint of step 4"):
        guards.on_save(run, 4)
    (run.checkpoint(4) / "manifest.json").write_text("{}", encoding="utf-8")
    guards.on_save(run, 4)
    run.checkpoint(4).rename(run.checkpoint(5))
    with pytest.raises(RunError, match="Wanted no checkpoint of step 5"):
        guards.on_save(run, 5)
