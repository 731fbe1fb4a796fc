from typing import Any

import pytest

from metacog.config import RunConfig, cautions, parse
from metacog.config.objective import PretrainObjective
from metacog.config.show import settings
from metacog.errors import ConfigError

REQUIRED_DEFAULTS = {
    "data.dataset": "glaiveai/reasoning-v1-20m",
    "data.path": None,
    "data.streaming": True,
    "data.sample_limit": None,
    "model.hub_push": False,
    "metacog.linked_all_layers": True,
    "metacog.proj_dim": 64,
    "metacog.agg": "attn",
    "metacog.var_reg": 1e-4,
    "metacog.per_layer_weight": 0.1,
    "metacog.plans": ("direct", "outline", "decompose", "verify"),
    "metacog.rereadings": True,
    "feedback.enabled": True,
    "feedback.layer": None,
    "feedback.switch": "learned",
    "budget.use_predicted_budget": True,
    "budget.min_think": 1,
    "budget.revise": True,
    "budget.landing.enabled": False,
    "plan.inject": False,
    "sampling.modulation.enabled": False,
    "adaptation.enabled": True,
    "adaptation.mode": "ln_only",
    "adaptation.last_k": 2,
    "adaptation.unfreeze_all": False,
    "adaptation.lr_multiplier": 0.05,
    "losses.budget_target": "need",
    "run.save_interval": 1000,
    "run.eval_interval": 100,
    "run.keep_last": None,
    "length.auto_probe": True,
    "logging.sinks": ("jsonl", "console"),
}
"""The defaults that the requirements and the design state."""

COUNTS = (
    "data.sample_limit",
    "data.num_prompts",
    "metacog.proj_dim",
    "budget.max_tokens",
    "budget.answer_reserve",
    "adaptation.last_k",
    "run.steps",
    "run.batch",
    "run.grad_accum",
    "run.save_interval",
    "run.eval_interval",
    "run.seed",
    "length.max_len",
    "length.probe_interval",
)


def nested(key: str, value: object) -> dict[str, Any]:
    document: Any = value
    for part in reversed(key.split(".")):
        document = {part: document}
    return document


def test_the_defaults_are_those_of_the_requirements() -> None:
    values = {setting.key: setting.value for setting in settings(RunConfig())}
    assert {key: values[key] for key in REQUIRED_DEFAULTS} == REQUIRED_DEFAULTS


@pytest.mark.parametrize("key", COUNTS)
@pytest.mark.parametrize("value", [1_000_000_000, 1e9, "1e9", "1_000_000_000"])
def test_a_count_has_no_upper_bound(key: str, value: object) -> None:
    config = parse(nested(key, value), source="test")
    assert {s.key: s.value for s in settings(config)}[key] == 1_000_000_000


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"budget": {"min_tokens": 512}}, "budget.min_tokens wanted less than"),
        ({"budget": {"min_think": 600}}, "budget.min_think wanted at most"),
        ({"data": {"path": "a", "tasks": ["gcd"]}}, "data.path, data.mixture and data.tasks"),
        ({"data": {"tasks": ["gcd", "gcd"]}}, "names a family twice"),
        ({"plan": {"scale": {"dirct": 1}}}, "plan.scale names 'dirct'"),
        (
            {"sampling": {"modulation": {"plan_shift": {"dirct": 1}}}},
            "sampling.modulation.plan_shift names 'dirct'",
        ),
        (
            {"sampling": {"modulation": {"plan_shift": {"direct": -1.1}}}},
            "sampling.modulation.plan_shift.direct",
        ),
        ({"metacog": {"plans": ["a", "a"]}}, "names a plan twice"),
        ({"metacog": {"plans": ["Do it"]}}, "lower-case words"),
        ({"metacog": {"plans": []}}, "metacog.plans"),
        ({"logging": {"sinks": ["console"]}}, "jsonl"),
        ({"logging": {"sinks": ["jsonl", "jsonl"]}}, "names a sink twice"),
        ({"feedback": {"strength": 0}}, "feedback.strength"),
        ({"budget": {"quantile": 1}}, "budget.quantile"),
        ({"sampling": {"top_p": 0}}, "sampling.top_p"),
        ({"run": {"objective": {"kind": "pretrain", "num_heads": 3}}}, "multiple of num_heads (3)"),
        (
            {"run": {"objective": {"kind": "pretrain", "longest": 390, "batch_tokens": 415}}},
            "padded (416), got 415; raise it or lower longest",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    document: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(document, source="test")
    assert told in str(caught.value)


@pytest.mark.parametrize(("longest", "step"), [(390, 32), (416, 32), (416, 1)])
def test_a_batch_may_hold_the_longest_example_alone(longest: int, step: int) -> None:
    sizes = {"longest": longest, "length_step": step, "batch_tokens": 416}
    config = parse({"run": {"objective": {"kind": "pretrain", **sizes}}}, source="test")
    assert isinstance(config.run.objective, PretrainObjective)
    assert config.run.objective.batch_tokens == 416
    with pytest.raises(ConfigError, match=r"padded \(416\), got 415"):
        parse(
            {"run": {"objective": {"kind": "pretrain", **sizes, "batch_tokens": 415}}},
            source="test",
        )


def test_plans_of_ones_own_need_no_scale() -> None:
    config = parse({"metacog": {"plans": ["fast", "slow"]}}, source="test")
    assert config.metacog.plans == ("fast", "slow")


@pytest.mark.parametrize(
    ("document", "keys"),
    [
        ({}, []),
        ({"metacog": {"var_reg": 1e-3}, "adaptation": {"lr_multiplier": 0.05}}, []),
        ({"metacog": {"var_reg": 0.0011}}, ["metacog.var_reg"]),
        ({"adaptation": {"lr_multiplier": 0.051}}, ["adaptation.lr_multiplier"]),
        ({"adaptation": {"lr_multiplier": 1, "enabled": False}}, []),
    ],
)
def test_cautions_begin_above_the_stated_limits(document: dict[str, Any], keys: list[str]) -> None:
    found = cautions(parse(document, source="test"))
    assert [caution.partition(" ")[0] for caution in found] == keys
