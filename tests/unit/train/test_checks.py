import re
from pathlib import Path
from typing import Any

import pytest

from metacog.config import RunConfig, load, parse
from metacog.data.tasks.families import FAMILIES
from metacog.errors import ConfigError
from metacog.train.boot import boot
from metacog.train.checks import families_of, reads_rows, refuse_unread, refuse_unused
from metacog.train.preflight import preflight
from metacog.train.run import checked, checked_model, train

RECIPES = Path(__file__).parents[3] / "recipes"
TASKS = {"data": {"tasks": ["gcd"]}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {"path": "rows.jsonl"}}, r"data\.path, data\.mixture or data\.dataset"),
        ({"data": {"dataset": "some/rows"}}, r"data\.path, data\.mixture or data\.dataset"),
        ({"data": {"sample_limit": 5}}, r"data\.sample_limit"),
        ({"data": {"tasks": ["gcd", "chess"]}}, r"data\.tasks among .*gcd.*got chess\."),
        ({**TASKS, "model": {"hub_push": True}}, r"no use for model\.hub_push"),
        ({**TASKS, "run": {"grad_accum": 4}}, r"grad_accum above 1"),
        ({"data": {"tasks": ["gcd"], "sample_limit": 5}}, r"data\.sample_limit"),
        ({**TASKS, "model": {"grad_checkpoint": True}}, r"model\.grad_checkpoint"),
        ({**TASKS, "model": {"flash_attn": True}}, r"model\.flash_attn. No gradient passes"),
        ({**TASKS, "model": {"base_path": "x"}}, r"model\.base_path"),
        ({**TASKS, "losses": {"hopeless_target": 3}}, r"losses\.hopeless_target"),
        (
            {**TASKS, "feedback": {"enabled": False}, "run": {"objective": {"kind": "gate"}}},
            r"objective gate has no use for feedback\.enabled=false",
        ),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refuse_unused(parse(settings, source="test"))


@pytest.mark.parametrize(
    ("kind", "sections", "told"),
    [
        (
            "layer",
            {"adaptation": {"unfreeze_all": True, "mode": "lora"}},
            "adaptation.mode ('ln_only')",
        ),
        ("layer", {"feedback": {"strength": 1.0, "site": "mlp"}}, "feedback.site ('block')"),
        ("layer", {"losses": {"closing": 0.5}}, "losses.closing (0.0)"),
        (
            "layer",
            {"data": {"streaming": False, "validation_rows": 5}},
            "data.validation_rows (64)",
        ),
        ("practice", {"length": {"max_len": 64}}, "length.max_len (2048)"),
        ("gate", {"losses": {"lambda_plan": 0.0}}, "losses.lambda_plan (0.5)"),
        ("imitate", {"losses": {"closing": 1.0}}, "losses.closing (0.0)"),
        ("pretrain", {"metacog": {"agg": "mean"}}, "metacog.agg ('attn')"),
        ("pretrain", {"model": {"path": "nowhere"}}, "model.path ('nano')"),
        ("pretrain", {"run": {"batch": 3}}, "run.batch (8)"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(
    kind: str, sections: dict[str, Any], told: str
) -> None:
    run = {**sections.get("run", {}), "objective": {"kind": kind}}
    refuse_unread(parse({"run": {"objective": {"kind": kind}}}, source="test"))
    with pytest.raises(ConfigError, match=re.escape(told)):
        refuse_unread(parse({**sections, "run": run}, source="test"))


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.yaml")))
def test_a_recipe_sets_only_what_is_read(name: str) -> None:
    refuse_unread(load(RECIPES / name))


def test_one_stage_that_reads_a_setting_is_enough() -> None:
    reread, practice = ({"steps": 1, "objective": {"kind": k}} for k in ("reread", "practice"))
    lora = {"mode": "lora"}

    def staged(*stages: object) -> RunConfig:
        run = {"objective": {"kind": "schedule", "stages": stages}}
        return parse({"adaptation": lora, "run": run}, source="test")

    refuse_unread(staged(practice, reread))
    with pytest.raises(ConfigError, match=r"schedule has no use for .*adaptation\.mode"):
        refuse_unread(staged(reread, reread))


@pytest.mark.parametrize("setting", [{"rollouts": 2}, {"sure": 0.9}, {"own_budget": True}])
def test_given_traces_take_nothing_that_makes_own_ones(setting: dict[str, object]) -> None:
    (name,) = setting
    for traces in ("own", "given"):
        objective = {"kind": "imitate", "traces": traces, **setting}
        config = parse({**TASKS, "run": {"objective": objective}}, source="test")
        if traces == "own":
            refuse_unused(config)
            continue
        with pytest.raises(ConfigError, match=rf"run\.objective\.{name} with given traces"):
            refuse_unused(config)


def test_what_cannot_take_a_step_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run: dict[str, object] = {"objective": {"kind": "practice"}, "batch": 2, "grad_accum": 2}
    few = parse({"data": {"tasks": ["gcd"], "num_prompts": 3}, "run": run}, source="test")
    mix = {"objective": {"kind": "pretrain", "level_weights": [1.0]}}
    for config, told in ((few, r"4 groups.*got 3.*num_prompts"), (mix, r"level_weights for the 8")):
        config = config if isinstance(config, RunConfig) else parse({"run": config}, source="test")
        with pytest.raises(ConfigError, match=told):
            preflight(config)
        with pytest.raises(ConfigError, match=told):
            train(config, run_dir=tmp_path / "run")
        (bad,) = [check for check in boot(config, runs=tmp_path) if not check.is_right]
        assert re.search(told, bad.says)
    assert list(tmp_path.iterdir()) == []


def test_the_defaults_are_a_run() -> None:
    """A fresh form, started as it stands: nano, all families, no network."""
    config = RunConfig()
    model, sources = checked(config)
    assert model is not None
    assert not sources
    assert families_of(config) == tuple(FAMILIES)
    assert not reads_rows(config)
    rows = parse({"run": {"objective": {"kind": "imitate"}}}, source="test")
    assert reads_rows(rows)


def test_practice_may_name_the_budget_of_a_hopeless_prompt() -> None:
    document = {"run": {"objective": {"kind": "practice"}}, "losses": {"hopeless_target": 3}}
    refuse_unused(parse(document, source="test"))


@pytest.mark.parametrize("kind", ["practice", "reread"])
def test_a_run_that_goes_on_takes_no_other_shape(kind: str) -> None:
    def going_on(**sections: object) -> RunConfig:
        return parse({"run": {"objective": {"kind": kind}}, **sections}, source="test")

    assert checked_model(going_on()).gate is not None  # type: ignore[union-attr]
    assert checked_model(going_on(feedback={"enabled": False})).gate is None  # type: ignore[union-attr]
    same = {"metacog": {"proj_dim": 128, "budget_scale": "log"}, "feedback": {"strength": 1.0}}
    checked_model(going_on(**same))
    with pytest.raises(ConfigError, match=r"nano has, whose metacog\.proj_dim is 128.*got 7"):
        checked_model(going_on(metacog={"proj_dim": 7}))
    with pytest.raises(ConfigError, match=r"feedback\.layer is 5.*got 2"):
        checked_model(going_on(feedback={"layer": 2}))


def test_own_traces_have_to_teach_something() -> None:
    document = {
        "adaptation": {"enabled": False},
        "feedback": {"enabled": False},
        "run": {"objective": {"kind": "imitate", "traces": "own"}},
    }
    with pytest.raises(ConfigError, match=r"wanted one of them.*adaptation\.enabled to true"):
        checked_model(parse(document, source="test"))


def test_what_is_used_passes() -> None:
    refuse_unused(parse(TASKS, source="test"))
    refuse_unused(parse({**TASKS, "feedback": {"enabled": False}}, source="test"))
