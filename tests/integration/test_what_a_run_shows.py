"""One small run from its recipe: what events, files, console and TensorBoard show of it."""

import io
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metacog.config import load
from metacog.config.run import RunConfig
from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.reader import read_events
from metacog.telemetry.rundir import RunDir
from metacog.train.run import train

RECIPE = Path(__file__).parents[2] / "recipes" / "imitate.yaml"


def small(tiny: Path, *more: str) -> RunConfig:
    return load(
        RECIPE,
        (
            f"model.path={tiny}",
            "data.num_prompts=12",
            "data.tasks=[chain_sum, count_bits]",
            "metacog.proj_dim=8",
            "budget.max_tokens=16",
            "budget.answer_reserve=6",
            "run.steps=4",
            "run.batch=4",
            "run.warmup=0",
            "run.eval_interval=2",
            *more,
        ),
    )


@pytest.fixture(scope="module")
def shown(
    tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunDir, list[Event], str]:
    """A run with TensorBoard, its events, and what it wrote to stderr."""
    config = small(tiny_directory, "logging.sinks=[jsonl, console, tensorboard]")
    with redirect_stderr(io.StringIO()) as stream:
        run = train(config, run_dir=tmp_path_factory.mktemp("shown") / "run")
    return run, read_events(run.events), stream.getvalue()


def test_events_hold_every_puzzle_with_texts_and_lengths(
    shown: tuple[RunDir, list[Event], str],
) -> None:
    run, events, _ = shown
    samples = [event for event in events if event.kind is EventKind.SAMPLE]
    assert [(s.step, s.data["number"]) for s in samples] == [
        (step, number) for step in (2, 4) for number in range(1, 9)
    ]
    for sample in samples:
        assert sample.data["suite"] == "puzzles"
        assert sample.data["question"]
        assert isinstance(sample.data["thinking"], str)
        assert isinstance(sample.data["answer"], str)
        assert 0 < int(str(sample.data["think_tokens"])) <= int(str(sample.data["budget"])) <= 16
    assert read_events(run.samples) == samples
    evaluations = [event for event in events if event.kind is EventKind.EVAL]
    assert [event.step for event in evaluations] == [2, 4]
    for event in evaluations:
        asked = [sample for sample in samples if sample.step == event.step]
        right = sum(bool(sample.data["correct"]) for sample in asked)
        assert event.data["eval/puzzles/accuracy"] == pytest.approx(right / 8)
        used = sum(int(str(sample.data["think_tokens"])) for sample in asked)
        assert event.data["eval/puzzles/think_tokens"] == pytest.approx(used / 8)
        assert "eval/validation/loss" in event.data


def test_the_console_shows_each_puzzle_on_a_line(shown: tuple[RunDir, list[Event], str]) -> None:
    _, events, text = shown
    lines = [line for line in text.splitlines() if "  puzzles " in line]
    samples = [event for event in events if event.kind is EventKind.SAMPLE]
    assert len(lines) == len(samples) == 16
    for line, sample in zip(lines, samples, strict=True):
        verdict = "right" if sample.data["correct"] else "wrong"
        assert f"puzzles {sample.data['number']} {verdict}" in line
        assert f"THINK {sample.data['think_tokens']}/{sample.data['budget']} " in line
        assert len(line) < 320
    assert "eval/puzzles/accuracy" in text


def test_tensorboard_reads_the_same_run(shown: tuple[RunDir, list[Event], str]) -> None:
    run, events, _ = shown
    board = EventAccumulator(str(run.tensorboard))
    board.Reload()
    tags = set(board.Tags()["tensors"])
    assert {"config", "train/loss", "eval/puzzles/accuracy"} <= tags
    assert {f"samples/puzzles/{number}" for number in range(1, 9)} <= tags
    for name in ("eval/puzzles/accuracy", "eval/puzzles/think_tokens", "eval/validation/loss"):
        curve = [(e.step, e.tensor_proto.float_val[0]) for e in board.Tensors(name)]
        wanted = [(e.step, e.data[name]) for e in events if e.kind is EventKind.EVAL]
        assert curve == [(step, pytest.approx(value)) for step, value in wanted]
    first = board.Tensors("samples/puzzles/1")[0].tensor_proto.string_val[0].decode()
    sample = next(event for event in events if event.kind is EventKind.SAMPLE)
    assert f"**think_tokens**\n\n    {sample.data['think_tokens']}\n" in first


def test_being_watched_changes_nothing_that_is_learned(
    tiny_directory: Path, tmp_path: Path, shown: tuple[RunDir, list[Event], str]
) -> None:
    watched, _, _ = shown
    alone = train(small(tiny_directory, "run.eval_interval=1000"), run_dir=tmp_path / "alone")
    one, other = (load_file(run.path / "final" / "metacog.safetensors") for run in (watched, alone))
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
