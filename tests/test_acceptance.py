"""The acceptance criteria of the requirements (section 7) and the sign-off items (section C), in order.

Everything here looks at real runs of a tiny random model: two that every criterion shares, and a few
steps of their own where a criterion is about gradients. What is for the cockpit to show is left to it.
"""

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from metacog.config import RunConfig, parse
from metacog.config.objective import ImitateObjective
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.gate import gates_in
from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.manifest import verified
from metacog.telemetry.reader import read_events
from metacog.telemetry.rundir import RunDir
from metacog.train.imitate import Imitation
from metacog.train.prepare import prepare_imitation
from metacog.train.run import train
from tests.conftest import MakeModel
from tests.integration.test_left_padding import everything_said, of_padding
from tests.test_observe_infer_smoke import GUARD
from tests.textdata import row, write_jsonl

STEPS, SAVES, EVALUATIONS = 40, 15, 20


def recipe(base: Path, **sections: Mapping[str, object]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "model": {"path": str(base)},
        "data": {"tasks": ["chain_sum", "count_bits"], "num_prompts": 24},
        "metacog": {"proj_dim": 8},
        "adaptation": {"enabled": True, "mode": "ln_only", "last_k": 2},
        "budget": {"min_tokens": 1, "max_tokens": 24, "answer_reserve": 8},
        "sampling": {"temperature": 1.0, "top_p": 1.0},
        "logging": {"sinks": ["jsonl", "console"]},
        "run": {
            "steps": STEPS,
            "batch": 2,
            "save_interval": SAVES,
            "eval_interval": EVALUATIONS,
            "warmup": 0,
            "objective": {"kind": "imitate", "cut_after": 4},
        },
    }
    for name, values in sections.items():
        document[name] = {**document.get(name, {}), **values}
    return document


@dataclass(frozen=True)
class Ran:
    """A run with all that it said."""

    run: RunDir
    console: str
    warned: list[str]

    @property
    def events(self) -> list[Event]:
        return read_events(self.run.events)

    @property
    def metrics(self) -> list[Mapping[str, Any]]:
        return [event.data for event in self.events if event.kind is EventKind.METRICS]


def ran(document: Mapping[str, Any], path: Path) -> Ran:
    with everything_said() as said, redirect_stderr(io.StringIO()) as console:
        run = train(parse(document, source="test"), run_dir=path)
    return Ran(run, console.getvalue(), said)


@pytest.fixture(scope="module")
def imitated(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Forty steps from given traces."""
    return ran(recipe(tiny_directory), tmp_path_factory.mktemp("imitated") / "run")


@pytest.fixture(scope="module")
def practised(
    tiny_directory: Path, make_tiny_model: MakeModel, tmp_path_factory: pytest.TempPathFactory
) -> Ran:
    """Twenty steps from own rollouts, under a gate that changes something from the start."""
    directory = tmp_path_factory.mktemp("practised")
    make_tiny_model().save_layer(directory / "layer")
    objective = {"kind": "practice", "group_size": 4, "layer_path": str(directory / "layer")}
    run = {"steps": 20, "save_interval": 1000, "eval_interval": 1000, "objective": objective}
    return ran(recipe(tiny_directory, run=run), directory / "run")


@pytest.fixture(params=["imitated", "practised"])
def either(request: pytest.FixtureRequest) -> Ran:
    found: Ran = request.getfixturevalue(request.param)
    return found


def objective_of(config: RunConfig, model: MetacogModel) -> Imitation:
    assert isinstance(config.run.objective, ImitateObjective)
    objective = prepare_imitation(config, config.run.objective, MetacogModel(model.base), [], None)
    gate = objective.model.gate
    if gate is not None:
        with torch.no_grad():
            gate.project.weight.normal_(std=0.7, generator=torch.Generator().manual_seed(0))
    return objective


def gradients(objective: Imitation) -> dict[str, Tensor]:
    """Return the gradient of every parameter of the base after one pass, by name."""
    (part,) = objective.parts(next(objective.batches(0)))
    with objective.step(part) as result:
        result.loss.backward()
    named = objective.model.base.model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


# 7.1 Left padding is active; no warning about padding on the right.


def test_71_left_padding_is_active_and_no_padding_warning_is_emitted(either: Ran) -> None:
    assert load_model(either.run.path).base.tokenizer.padding_side == "left"
    assert [values["data/left_padding_ok"] for values in either.metrics] == [1.0] * len(
        either.metrics
    )
    assert of_padding(either.warned) == []


# 7.2 The budget is active in training: think_tokens_used > 0 and varies, budget error non-zero.


def test_72_thinking_is_counted_and_varies_and_the_budget_error_is_not_zero(either: Ran) -> None:
    used = [values["think_tokens_used"] for values in either.metrics]
    assert all(count > 0 for count in used)
    assert len(set(used)) > 1
    assert all(values["train/budget_mse"] > 0 for values in either.metrics)


def test_72_the_budget_caps_thinking_in_training(
    imitated: Ran, practised: Ran, make_tiny_model: MakeModel
) -> None:
    objective = objective_of(imitated.run.load_config(), make_tiny_model())
    whole = [trace.reply.budget.used for trace in next(objective.batches(0)).traces]
    assert min(whole) > 24, "traces are longer than any budget"
    assert all(values["think_tokens_used"] <= 24 for values in imitated.metrics)
    hists = [event.data for event in practised.events if event.kind is EventKind.HIST]
    assert len(hists) == 20
    for step in hists:
        for length, cap in zip(list(step["think_len"]), list(step["cap"]), strict=True):
            assert 0 < length <= (math.inf if cap is None else cap)


# 7.3 The gate is in place in training; gradients of the base depend on it where the base adapts.


def test_73_gradients_of_the_adapted_base_depend_on_the_gate(
    tiny_directory: Path, make_tiny_model: MakeModel
) -> None:
    on, off = (
        objective_of(
            parse(recipe(tiny_directory, feedback={"enabled": enabled}), source="test"),
            make_tiny_model(),
        )
        for enabled in (True, False)
    )
    (part,) = on.parts(next(on.batches(0)))
    with on.step(part):
        assert len(gates_in(on.model.base.model)) == 1
    assert gates_in(on.model.base.model) == []
    gated, bare = gradients(on), gradients(off)
    assert gated.keys() == bare.keys() != set()
    assert all(not torch.allclose(gated[name], bare[name]) for name in gated)


# 7.4 Telemetry of the blocks: alpha, plan agreement, budget variance.


def test_74_the_blocks_opinions_are_told(either: Ran) -> None:
    for values in either.metrics:
        low, mean, high = (values[f"metacog/alpha/{name}"] for name in ("min", "mean", "max"))
        assert 0 <= low <= mean <= high <= 1
        assert mean == pytest.approx(1 / 3)
        assert 0 <= values["metacog/alpha/entropy"] <= math.log(3) + 1e-6
        assert 0 <= values["metacog/plan_agreement"] <= 1
        assert values["metacog/budget_variance"] > 0


# 7.5 The length probe raises max_len on longer rows and never lowers it.


def test_75_max_len_rises_with_longer_rows(tiny_directory: Path, tmp_path: Path) -> None:
    values = [row(number, words=3 + number // 40) for number in range(400)]
    path = write_jsonl(tmp_path / "rows.jsonl", values)
    document = recipe(
        tiny_directory,
        data={"tasks": [], "path": str(path), "shuffle_buffer": 1, "validation_rows": 2},
        length={"max_len": 60, "probe_interval": 20},
        run={"steps": 60, "eval_interval": 1000},
    )
    lengths = [values["data/max_len"] for values in ran(document, tmp_path / "run").metrics]
    assert lengths == sorted(lengths)
    assert lengths[-1] > lengths[0] >= 60


# 7.6 Checkpoints every 1000 steps, evaluations every 100, which print what puzzles were answered.


def test_76_a_thousand_and_a_hundred_are_the_defaults() -> None:
    assert RunConfig().run.save_interval == 1000
    assert RunConfig().run.eval_interval == 100


def test_76_checkpoints_and_evaluations_come_exactly_at_their_intervals(imitated: Ran) -> None:
    there = sorted(path.name for path in imitated.run.path.glob("checkpoint-*"))
    assert there == ["checkpoint-15", "checkpoint-30"]
    assert [verified(path).step for path in imitated.run.checkpoints()] == [30, 15]
    kinds = [(event.step, event.kind) for event in imitated.events]
    assert [step for step, kind in kinds if kind is EventKind.EVAL] == [20, 40]
    samples = [event for event in imitated.events if event.kind is EventKind.SAMPLE]
    assert [sample.step for sample in samples] == [20] * 8 + [40] * 8
    lines = [line for line in imitated.console.splitlines() if "  puzzles " in line]
    assert len(lines) == 16
    for line, sample in zip(lines, samples, strict=True):
        assert f"THINK {sample.data['think_tokens']}/{sample.data['budget']}" in line


# 7.7 Without the cockpit: large numbers are accepted, and what was given stays as it was.


def test_77_large_numbers_are_accepted_and_the_configuration_is_left_as_it_was(
    tiny_directory: Path, tmp_path: Path
) -> None:
    document = recipe(tiny_directory)
    document["run"] |= {"steps": 1_000_000_000, "save_interval": "1e9", "eval_interval": 1e9}
    large = parse(document, source="test")
    assert (large.run.steps, large.run.save_interval) == (10**9, 10**9)
    config = parse(recipe(tiny_directory, run={"steps": 1}), source="test")
    before = config.model_dump_json()
    run = train(config, run_dir=tmp_path / "run")
    assert config.model_dump_json() == before
    assert run.load_config() == config


# 7.8 Everything of the base can be unfrozen, at a low rate, and has gradients.


def test_78_an_unfrozen_base_has_gradients_everywhere_and_learns_at_the_low_rate(
    tiny_directory: Path, make_tiny_model: MakeModel, tmp_path: Path
) -> None:
    document = recipe(tiny_directory, adaptation={"unfreeze_all": True})
    config = parse(document, source="test")
    found = gradients(objective_of(config, make_tiny_model()))
    named = dict(make_tiny_model().base.model.named_parameters())
    assert found.keys() == named.keys()
    assert [name for name, gradient in found.items() if not gradient.any()] == []
    assert config.adaptation.lr_multiplier == 0.05
    finished = ran({**document, "run": {**document["run"], "steps": 10}}, tmp_path / "run")
    (values,) = finished.metrics
    base, layer = (values[f"train/learning_rate/{name}"] for name in ("base", "layer"))
    assert base == pytest.approx(0.05 * layer)
    learned = dict(load_model(finished.run.path).base.model.named_parameters())
    assert [name for name, value in named.items() if torch.equal(value, learned[name])] == []


# C: logs show thinking that varies, a budget error, a finite entropy of alpha, plan agreement.


def test_c_the_log_of_a_run_shows_all_that_is_signed_off(either: Ran) -> None:
    lines = either.run.events.read_text(encoding="utf-8").splitlines()
    shown = [e["data"] for e in map(json.loads, lines) if e["kind"] == "metrics"]
    assert len(shown) >= 2
    for values in shown:
        assert values["think_tokens_used"] > 0
        assert values["train/budget_mse"] > 0
        assert math.isfinite(values["metacog/alpha/entropy"])
        assert 0 <= values["metacog/plan_agreement"] <= 1
    assert len({values["think_tokens_used"] for values in shown}) > 1


# C: a local model causes no call to the hub.


def test_c_training_a_local_model_calls_nobody(tiny_directory: Path, tmp_path: Path) -> None:
    document = recipe(tiny_directory, run={"steps": 2, "eval_interval": 1})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    code = f"{GUARD}\nfrom metacog.cli.main import app\napp(prog_name='metacog')"
    allowed = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    result = subprocess.run(
        [sys.executable, "-c", code, "train", "recipe.yaml", "--run-dir", "run"],
        cwd=tmp_path,
        env={**allowed, "HF_HOME": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "final").is_dir()
