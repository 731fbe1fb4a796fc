from typing import Any

import pytest

from metacog.config import RunConfig, parse
from metacog.data.tasks.families import FAMILIES
from metacog.errors import ConfigError
from metacog.train.checks import families_of, reads_rows, refuse_unused
from metacog.train.run import checked, checked_model

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
