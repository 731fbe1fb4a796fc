"""Imitation from rows of text: what is learned, what is missing, and where the data stand."""

import json
import threading
from itertools import islice
from pathlib import Path

import pytest
import torch

from metacog.config import RunConfig, parse
from metacog.data.tasks.splits import Split, split_of
from metacog.errors import CheckpointError, DataError
from metacog.model.bundle import MetacogModel, load_model
from metacog.records import Segment
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.train.imitate import Imitation, ImitationBatch
from metacog.train.prepare import prepare_imitation
from metacog.train.run import checked, train
from metacog.train.state import State
from tests.architectures import build
from tests.textdata import rows, write_jsonl

MISSING = {"plan", "confidence", "needed", "ready", "gain"}


@pytest.fixture(scope="module")
def llama(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama whose tokenizer falls back to bytes."""
    return build("llama", tiny_directory, tmp_path_factory.mktemp("llama"))


@pytest.fixture
def config(llama: Path, tmp_path: Path) -> RunConfig:
    path = write_jsonl(tmp_path / "rows.jsonl", rows(120))
    document = {
        "model": {"path": str(llama)},
        "data": {"path": str(path), "shuffle_buffer": 10, "validation_rows": 5},
        "metacog": {"proj_dim": 8},
        "budget": {"min_tokens": 2, "max_tokens": 48, "answer_reserve": 8},
        "run": {
            "batch": 3,
            "steps": 2,
            "warmup": 0,
            "eval_interval": 1,
            "objective": {"kind": "imitate", "cut_after": 2},
        },
    }
    return parse(document, source="test")


def training_of(config: RunConfig) -> Imitation:
    model, sources = checked(config)
    assert isinstance(model, MetacogModel)
    objective = config.run.objective
    assert objective.kind == "imitate"
    return prepare_imitation(config, objective, model, sources, None)


def take(training: Imitation, start: int, count: int) -> list[ImitationBatch]:
    batches = training.batches(start)
    found = list(islice(batches, count))
    batches.close()
    return found


def test_rows_are_learned_as_they_were_written(config: RunConfig) -> None:
    training = training_of(config)
    base = training.model.base
    known = {r["response"]: r["prompt"] for r in rows(120)}
    for batch in take(training, 0, 4):
        for trace in batch.traces:
            text = base.decode([s.token for s in trace.reply.steps], with_control=True)
            response = f"<think>{text.removesuffix('<|end|>')}"
            prompt = base.decode(trace.reply.prompt)
            assert known[response] == prompt
            assert split_of(prompt) in {Split.BASE_TRAIN, Split.LAYER_TRAIN}
            assert trace.plan is None
            assert all(step.sampled for step in trace.reply.steps)
            thought = [s for s in trace.reply.steps if s.segment is Segment.THINK]
            assert trace.reply.budget.used == len(thought) > 0


def test_a_loss_without_labels_is_missing_and_the_others_are_there(config: RunConfig) -> None:
    training = training_of(config)
    (batch,) = take(training, 0, 1)
    with training.step(training.parts(batch)[0]) as result:
        result.loss.backward()
    losses = {n.removeprefix("train/loss_") for n in result.metrics if n.startswith("train/loss_")}
    assert losses == {"answer", "budget", "variance", "style"}
    assert not losses & MISSING
    assert "train/plan_accuracy" not in result.metrics
    for name, parameter in training.layer.named_parameters():
        if "conf" in name or "reread" in name:
            assert parameter.grad is None or not bool(parameter.grad.any()), name
    assert bool(torch.isfinite(result.loss))


def test_validation_rows_are_held_out_and_measured_on(config: RunConfig) -> None:
    training = training_of(config)
    base = training.model.base
    held = {base.decode(t.reply.prompt) for t in training.traces.validation()}
    assert len(held) == 5
    assert {split_of(prompt) for prompt in held} == {Split.VALIDATION}
    before = training.evaluate()
    assert before["eval/validation/loss_answer"] > 0
    assert "eval/validation/loss_plan" not in before
    assert training.evaluate() == before


def test_without_validation_rows_nothing_is_measured(config: RunConfig) -> None:
    none = config.model_copy(update={"data": config.data.model_copy(update={"validation_rows": 0})})
    assert training_of(none).evaluate() == {}


def test_a_state_goes_on_with_the_very_next_batch(config: RunConfig) -> None:
    whole = take(training_of(config), 0, 7)
    found: list[ImitationBatch] = []
    state = None
    for count in (2, 3, 2):
        training = training_of(config)
        if state is not None:
            training.load_state(state)
        found += take(training, len(found), count)
        state = State({}, json.loads(json.dumps(training.state().values)))
    assert found == whole
    assert [batch.is_cut for batch in found] == [False] * 2 + [True] * 5


def test_batches_of_a_later_start_are_those_that_would_have_come(config: RunConfig) -> None:
    assert take(training_of(config), 3, 2) == take(training_of(config), 0, 5)[3:]
    training = training_of(config)
    take(training, 0, 2)
    with pytest.raises(ValueError, match="step 1 lies behind the stream"):
        take(training, 1, 1)


def test_the_state_of_generated_questions_is_not_that_of_rows(config: RunConfig) -> None:
    with pytest.raises(CheckpointError, match="got one without"):
        training_of(config).load_state(State({}, {"data": {}}))


def test_no_thread_is_left_behind(config: RunConfig) -> None:
    take(training_of(config), 0, 2)
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_a_run_tells_of_its_data_and_saves_a_layer(config: RunConfig, tmp_path: Path) -> None:
    run = train(config, run_dir=tmp_path / "run")
    events = read_events(run.events)
    metrics = next(e.data for e in events if e.kind is EventKind.METRICS)
    assert metrics["data/max_len"] == 256.0
    assert metrics["data/left_padding_ok"] == 1.0
    assert metrics["data/quarantined"] == metrics["data/left_out"] == 0.0
    assert metrics["data/longest_seen"] > 0
    assert [e.step for e in events if e.kind is EventKind.EVAL] == [1, 2]
    found = load_model(run.path)
    assert found.reader is not None
    assert found.gate is not None


@pytest.mark.parametrize(
    ("rows_", "message"),
    [
        ([{"instruction": "a", "output": "b"}], r"found instruction, output"),
        ([], r"found none that can be read"),
    ],
)
def test_data_of_the_wrong_kind_are_refused_before_anything_is_written(
    rows_: list[dict[str, str]], message: str, config: RunConfig, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", rows_)
    with pytest.raises(DataError, match=message):
        train(config, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_the_small_tokenizer_spells_out_beyond_the_context_is_set_aside(
    config: RunConfig, tmp_path: Path
) -> None:
    long = {"prompt": "Сколько?", "response": f"<think>{'думаю ' * 200}</think>да"}
    write_jsonl(tmp_path / "rows.jsonl", [*rows(60), long])
    run = train(config.model_copy(update={"length": config.length}), run_dir=tmp_path / "run")
    lines = run.quarantine.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["reason"] for line in lines][:1] in ([], ["too_long"])
