"""The cross-cutting quality gates: each holds in a real run, and a run that breaks it stops.

1 padding  2 budget activation  3 gate parity  4 length probe  5 checkpoint cadence  6 telemetry
7 no bypass. Every run here is short, on a tiny random model.
"""

import json
import math
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from metacog.config import RunConfig, parse
from metacog.config.objective import ImitateObjective
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.errors import DataError, ModelError, RunError
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.gate import gated_place, gates_in
from metacog.model.step import ModuleStep
from metacog.records import Generation
from metacog.telemetry.events import EventKind
from metacog.telemetry.manifest import verified
from metacog.telemetry.reader import read_events
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.sinks import MultiSink
from metacog.train.gated import ReplyBatch, gated, read_prompts, reply_batch, reply_logits
from metacog.train.guards import BUDGET_ERROR, MAX_LEN, OPINIONS, THINKING, guards_for
from metacog.train.imitate import Imitation
from metacog.train.loop import fit
from metacog.train.passage import Passage
from metacog.train.prepare import prepare_imitation
from metacog.train.run import train
from metacog.train.text import open_sources
from tests.broken import (
    LAZY_AT,
    Another,
    Forgetful,
    Lazy,
    Misplaced,
    Shrinking,
    Silent,
    Undefined,
    Ungated,
)
from tests.contracts.source import parse as parse_source
from tests.contracts.test_named_tests import EXISTING, bypasses
from tests.textdata import row, write_jsonl

STEPS, INTERVAL = 8, 3
TASKS = ("chain_sum", "count_bits")


def configured(base: Path, **sections: Mapping[str, object]) -> RunConfig:
    """A few steps from given traces, with the gate on and the budget taught."""
    document: dict[str, dict[str, object]] = {
        "model": {"path": str(base)},
        "data": {"tasks": list(TASKS), "num_prompts": 24},
        "metacog": {"proj_dim": 8},
        "adaptation": {"enabled": True, "mode": "ln_only", "last_k": 1},
        "budget": {"min_tokens": 1, "max_tokens": 24, "answer_reserve": 8},
        "sampling": {"temperature": 1.0, "top_p": 1.0},
        "logging": {"sinks": ["jsonl"]},
        "run": {
            "steps": STEPS,
            "batch": 2,
            "save_interval": INTERVAL,
            "eval_interval": 100,
            "warmup": 0,
            "objective": {"kind": "imitate", "cut_after": 2},
        },
    }
    for name, values in sections.items():
        document[name] = {**document.get(name, {}), **values}
    return parse(document, source="test")


@pytest.fixture
def config(tiny_directory: Path) -> RunConfig:
    return configured(tiny_directory)


def objective_of(config: RunConfig, kind: type[Imitation] = Imitation) -> Imitation:
    """Return what `train` would train, as one of its subclasses."""
    assert isinstance(config.run.objective, ImitateObjective)
    sources = [] if config.data.tasks else open_sources(config)
    model = MetacogModel(load_model(config.model.path).base)
    made = prepare_imitation(config, config.run.objective, model, sources, None)
    made.__class__ = kind
    return made


def fitted(objective: Imitation, config: RunConfig, path: Path, keeper: Any = None) -> None:
    """Train with the guards that every run has."""
    recorder = Recorder("test", MultiSink({}))
    passage = Passage(objective, guards=guards_for(config, objective.current()))
    run = RunDir(path)
    keeper = None if keeper is None else keeper(objective, config.run, run, recorder)
    fit(objective, config.run, run=run, recorder=recorder, keeper=keeper, passage=passage)


def metrics_of(run: RunDir) -> list[Mapping[str, Any]]:
    return [e.data for e in read_events(run.events) if e.kind is EventKind.METRICS]


# 1 padding


def test_a_tokenizer_that_pads_on_the_right_is_refused_before_anything_is_written(
    tiny_directory: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_directory, tmp_path / "base")
    file = tmp_path / "base" / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**settings, "padding_side": "right"}), encoding="utf-8")
    with pytest.raises(ModelError, match="padding_side 'left', got 'right'"):
        train(configured(tmp_path / "base"), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_with_padding_behind_a_token_is_refused() -> None:
    valid = torch.tensor([[False, True, True], [True, True, False]])
    with pytest.raises(DataError, match=r"padded on the left, got padding .* rows \[1\] of 2"):
        ReplyBatch(((1,), (1,)), torch.ones(2, 3).long(), valid, valid, valid, valid)


def test_a_run_tells_that_its_rows_are_padded_on_the_left(
    config: RunConfig, tmp_path: Path
) -> None:
    assert metrics_of(train(config, run_dir=tmp_path / "run"))[-1]["data/left_padding_ok"] == 1.0


# 2 budget activation


@pytest.mark.parametrize("kind", ["imitate", "layer"])
def test_a_run_records_thinking_and_the_budget_error(
    kind: str, tiny_directory: Path, tmp_path: Path
) -> None:
    settings = {"objective": {"kind": kind}, "steps": 20, "learning_rate": 0.01}
    config = configured(tiny_directory, run=settings, adaptation={"last_k": 2})
    found = metrics_of(train(config, run_dir=tmp_path / "run"))
    assert len(found) == 2
    for values in found:
        assert values[THINKING] > 0
        assert values[BUDGET_ERROR] > 0
    assert found[0][THINKING] != found[1][THINKING], "it varies"


@pytest.mark.parametrize("name", [THINKING, BUDGET_ERROR])
def test_a_run_that_does_not_record_them_stops_in_its_first_step(
    name: str, config: RunConfig, tmp_path: Path
) -> None:
    silent = objective_of(config, Silent)
    assert isinstance(silent, Silent)
    silent.left_out = frozenset({name})
    with pytest.raises(RunError, match=rf"Wanted {name} in the metrics of step 1, got nothing"):
        fitted(silent, config, tmp_path / "run")


def test_the_budget_error_is_demanded_only_where_budgets_are_taught(
    tiny_directory: Path, tmp_path: Path
) -> None:
    config = configured(tiny_directory, losses={"lambda_budget_reg": 0.0})
    silent = objective_of(config, Silent)
    assert isinstance(silent, Silent)
    silent.left_out = frozenset({BUDGET_ERROR})
    fitted(silent, config, tmp_path / "run")


# 3 gate parity


def test_training_registers_the_hook_that_serving_does_and_removes_it(
    config: RunConfig,
) -> None:
    objective = objective_of(config)
    base, serving = objective.model.base, objective.current()
    assert serving.gate is not None
    ours = [(gated_place(base, serving.gate), serving.gate)]
    for batch, _ in zip(objective.batches(0), range(3), strict=False):
        (part,) = objective.parts(batch)
        with objective.step(part) as result:
            in_training = gates_in(base.model)
            result.loss.backward()
            assert gates_in(base.model) == in_training, "it stays for the backward pass"
        assert in_training == ours
        assert gates_in(base.model) == []
    with ModuleStep(base, serving.gate, tapped=True).attached():
        assert gates_in(base.model) == ours, "serving has the same hook in the same place"
    assert gates_in(base.model) == []


def test_the_training_pass_gives_a_served_reply_the_probabilities_it_was_served_with(
    tiny_model: MetacogModel, tiny_prompts: tuple[tuple[int, ...], ...]
) -> None:
    engine = Engine(tiny_model, engine_settings(tiny_model, rows=2))
    asked = [
        request_for(tiny_model, prompt, request_id=number, budget=9, temperature=1.0)
        for number, prompt in enumerate(tiny_prompts)
    ]
    replies = list(engine.generate(asked))
    served = torch.tensor([step.logprob for reply in replies for step in reply.steps])
    trained, ungated = (
        logprobs(model, replies) for model in (tiny_model, replace(tiny_model, gate=None))
    )
    torch.testing.assert_close(trained, served, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ungated, served, atol=1e-2), "the gate matters"


@torch.no_grad()
def logprobs(model: MetacogModel, replies: Sequence[Generation]) -> Tensor:
    """Return the log-probability of every token of some replies in the pass that trains."""
    batch = reply_batch(replies, model.base.pad_id)
    with gated(model, read_prompts(model, batch.prompts), batch.gated):
        logits, targets, _ = reply_logits(model, batch)
    return logits.log_softmax(-1).gather(1, targets.unsqueeze(1)).squeeze(1)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Ungated, "no pass of the step had"),
        (Misplaced, "of another kind or in another block"),
        (Another, "of another kind or in another block"),
        (Forgetful, "no gate in the base after a step, found 1"),
    ],
)
def test_a_run_whose_gate_is_not_the_serving_one_stops(
    kind: type[Imitation], message: str, config: RunConfig, tmp_path: Path
) -> None:
    objective = objective_of(config, kind)
    before = [weight.clone() for weight in objective.optimizers.parameters]
    with pytest.raises(RunError, match=message):
        fitted(objective, config, tmp_path / "run")
    after = objective.optimizers.parameters
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_without_a_gate_in_serving_none_is_demanded_in_training(
    tiny_directory: Path, tmp_path: Path
) -> None:
    config = configured(tiny_directory, feedback={"enabled": False})
    objective = objective_of(config)
    assert objective.current().gate is None
    fitted(objective, config, tmp_path / "run")


# 4 length probe


@pytest.fixture
def growing(tiny_directory: Path, tmp_path: Path) -> RunConfig:
    """Rows that become longer, read in their order."""
    values = [row(number, words=3 + number // 40) for number in range(400)]
    path = write_jsonl(tmp_path / "rows.jsonl", values)
    return configured(
        tiny_directory,
        data={"tasks": [], "path": str(path), "shuffle_buffer": 1, "validation_rows": 2},
        length={"max_len": 60, "probe_interval": 20},
        run={"steps": 60, "save_interval": 1000},
    )


def test_max_len_rises_with_longer_rows_and_never_falls(growing: RunConfig, tmp_path: Path) -> None:
    run = train(growing, run_dir=tmp_path / "run")
    lengths = [values[MAX_LEN] for values in metrics_of(run)]
    assert lengths == sorted(lengths)
    assert lengths[-1] > lengths[0] >= 60


def test_a_run_whose_max_len_falls_stops(growing: RunConfig, tmp_path: Path) -> None:
    fixed = growing.model_copy(
        update={"length": growing.length.model_copy(update={"auto_probe": False})}
    )
    with pytest.raises(RunError, match=rf"{MAX_LEN} to rise or stay, got \d+ after \d+ at step 3"):
        fitted(objective_of(fixed, Shrinking), fixed, tmp_path / "run")


# 5 checkpoint cadence


def test_a_checkpoint_lies_at_exactly_every_interval(config: RunConfig, tmp_path: Path) -> None:
    run = train(config, run_dir=tmp_path / "run")
    there = {path.name for path in run.path.glob("checkpoint-*")}
    assert there == {f"checkpoint-{step}" for step in range(INTERVAL, STEPS + 1, INTERVAL)}
    assert [verified(path).step for path in run.checkpoints()] == [6, 3]


def test_a_run_without_a_checkpoint_that_is_due_stops(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=rf"a checkpoint of step {LAZY_AT} at run.save_interval=3, got none"
    ):
        fitted(objective_of(config), config, tmp_path / "run", Lazy)


def test_a_run_with_a_checkpoint_that_is_not_due_stops(config: RunConfig, tmp_path: Path) -> None:
    """What another hand puts into the directory while the run goes on: so guards are on in `train`."""
    run, over = tmp_path / "run", threading.Event()
    stray = run / f"checkpoint-{STEPS}" / "manifest.json"

    def meddle() -> None:
        while not over.is_set() and not (run / "config.yaml").is_file():
            time.sleep(0.001)
        stray.parent.mkdir()
        stray.write_text("{}", encoding="utf-8")

    meddler = threading.Thread(target=meddle)
    meddler.start()
    try:
        with pytest.raises(RunError, match=rf"no checkpoint of step {STEPS} .* got one at"):
            train(config, run_dir=run)
    finally:
        over.set()
        meddler.join()


# 6 per-layer telemetry


def test_the_blocks_opinions_are_told_and_finite(config: RunConfig, tmp_path: Path) -> None:
    values = metrics_of(train(config, run_dir=tmp_path / "run"))[-1]
    assert all(math.isfinite(values[name]) for name in OPINIONS)
    assert values["metacog/alpha/mean"] == pytest.approx(1 / 3)
    assert 0 < values["metacog/alpha/entropy"] <= math.log(3) + 1e-6
    assert values["metacog/budget_variance"] > 0


@pytest.mark.parametrize("name", OPINIONS)
def test_a_run_that_does_not_tell_them_stops(name: str, config: RunConfig, tmp_path: Path) -> None:
    silent = objective_of(config, Silent)
    assert isinstance(silent, Silent)
    silent.left_out = frozenset({name})
    with pytest.raises(RunError, match=rf"Wanted {name} in the metrics of step 1, got nothing"):
        fitted(silent, config, tmp_path / "run")


def test_a_run_whose_alpha_is_no_number_stops(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="metacog/alpha/entropy in the metrics of step 1, got nan"):
        fitted(objective_of(config, Undefined), config, tmp_path / "run")


def test_per_layer_is_full_wherever_a_layer_is_looked_at(tiny_model: MetacogModel) -> None:
    assert tiny_model.reader is not None
    states = torch.randn(2, 3, 32)
    shapes = {n: tuple(t.shape) for n, t in read(tiny_model, states).items()}
    assert shapes == {
        "plan_logits_pl": (2, 3, 4),
        "budget_raw_pl": (2, 3, 1),
        "conf_raw_pl": (2, 3, 1),
        "alpha": (2, 3),
    }
    assert tiny_model.reader.layer.read(states, telemetry=False).per_layer == {}


def read(model: MetacogModel, states: Tensor) -> Mapping[str, Tensor]:
    assert model.reader is not None
    return model.reader.layer.read(states).per_layer


# 7 no bypass


def test_no_named_test_gets_around_the_real_code() -> None:
    found: Sequence[Path] = sorted(Path(__file__).parent.glob("test_*.py"))
    assert Path(__file__).name in EXISTING
    assert {path.name for path in found} >= EXISTING
    for path in found:
        assert bypasses(parse_source(path.name, path.read_text(encoding="utf-8"))) == [], path.name
