"""On-policy decoding: every rollout of every step says how long it thought, in memory and in JSON."""

import json
from typing import Any

import pytest

from metacog.config import parse
from metacog.model.bundle import load_model
from metacog.telemetry.rundir import RunDir
from metacog.train.run import train

STEPS, GROUP, PROMPTS, MOST = 3, 4, 3, 48


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    config = parse(
        {
            "model": {"path": "nano"},
            "data": {"tasks": ["gcd", "count_bits", "chain_sum"], "num_prompts": 60},
            "adaptation": {"mode": "lora", "last_k": 2, "lora_rank": 2},
            "budget": {"min_tokens": 1, "max_tokens": MOST, "answer_reserve": 16},
            "plan": {"scale": {}},
            "run": {
                "steps": STEPS,
                "batch": PROMPTS,
                "warmup": 0,
                "eval_interval": 1000,
                "objective": {"kind": "practice", "group_size": GROUP},
            },
        },
        source="test",
    )
    return train(config, run_dir=tmp_path_factory.mktemp("practice") / "run")


@pytest.fixture(scope="module")
def events(run: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.events.read_text(encoding="utf-8").splitlines()]


def columns(events: list[dict[str, Any]]) -> list[dict[str, list[Any]]]:
    return [event["data"] for event in events if event["kind"] == "hist"]


def test_think_len_is_there_for_every_rollout_of_every_step(events: list[dict[str, Any]]) -> None:
    steps = columns(events)
    assert len(steps) == STEPS
    for step in steps:
        assert len(step["think_len"]) == PROMPTS * GROUP
        assert all(isinstance(length, int) and length > 0 for length in step["think_len"])
    assert len({length for step in steps for length in step["think_len"]}) > 5, "it varies"


def test_no_rollout_thinks_longer_than_its_cap(events: list[dict[str, Any]]) -> None:
    for step in columns(events):
        for length, cap, source in zip(
            step["think_len"], step["cap"], step["budget_source"], strict=True
        ):
            # A prediction beyond what a reply may hold is no cap of its own.
            assert cap is not None or source in {"uncapped", "predicted"}
            assert length <= (MOST if cap is None else cap) <= MOST


def test_each_group_has_a_predicted_an_uncapped_and_other_budgets(
    events: list[dict[str, Any]],
) -> None:
    for step in columns(events):
        for first in range(0, PROMPTS * GROUP, GROUP):
            sources = step["budget_source"][first : first + GROUP]
            assert sources == ["predicted", "uncapped", "explicit", "explicit"]


def test_the_metrics_hold_think_tokens_used_and_the_budget_error(
    events: list[dict[str, Any]],
) -> None:
    metrics = [event["data"] for event in events if event["kind"] == "metrics"][-1]
    last = columns(events)[-1]["think_len"]
    assert metrics["think_tokens_used"] == pytest.approx(sum(last) / len(last))
    assert metrics["metacog/budget/used_mean"] == metrics["think_tokens_used"]
    assert metrics["train/budget_mse"] > 0
    assert metrics["rl/reward_std"] > 0


def test_what_was_learned_loads_and_is_another_base(run: RunDir) -> None:
    found = load_model(run.path)
    assert found.reader is not None
    assert found.gate is not None
    assert found.base.digest != load_model("nano").base.digest
