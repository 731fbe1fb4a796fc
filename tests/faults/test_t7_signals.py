"""T7: a run that is asked to stop finishes its step and saves; asked twice it ends at once, unharmed."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn

from metacog.config.run import TrainingConfig
from metacog.errors import RunStopped
from metacog.losses.combine import LossName
from metacog.losses.report import LossReport
from metacog.model.learner import Learner
from metacog.telemetry.events import EventKind
from metacog.telemetry.manifest import verified
from metacog.telemetry.reader import read_events
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.sinks import MultiSink
from metacog.train.loop import fit
from metacog.train.optim import Group, Optimizers
from metacog.train.result import Counts, StepResult
from metacog.train.resume import choose
from metacog.train.state import State
from metacog.train.stopping import stoppable
from tests.conftest import MakeModel
from tests.faults.processes import Process, Trainer, contents, imitation, told, wait_until, written

STEPS = 40
IN_TIME = 30.0
"""Seconds from the signal to the end of the process."""
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138}
"""With the exit code that a shell knows each by."""


@pytest.fixture(scope="module")
def longer(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that leaves time to be stopped in."""
    document = imitation(tiny_directory)
    run = {**document["run"], "steps": STEPS, "save_interval": 1000, "eval_interval": 4}
    return written({**document, "run": run}, tmp_path_factory.mktemp("longer") / "recipe.yaml")


@pytest.fixture(scope="module")
def whole(trainer: Trainer, longer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert trainer.run("train", str(longer), "--run-dir", str(run))[0] == 0
    return run


def started(trainer: Trainer, recipe: Path, run: Path, step: int) -> Process:
    """Start or resume a run and wait until it has done some more steps."""
    process = trainer.start("train", str(recipe), "--run-dir", str(run), "--resume", "auto")
    events = run / "events.jsonl"
    wait_until(lambda: events.is_file() and steps_told(events) >= step)
    return process


def steps_told(events: Path) -> int:
    return max((e.step for e in read_events(events) if e.kind is EventKind.EVAL), default=0)


def stopped_by(process: Process, number: int) -> int:
    """Send a signal and return the exit code, which must come in time."""
    started = time.monotonic()
    process.kill(number)
    code = process.wait()
    assert time.monotonic() - started < IN_TIME
    return code


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_run_that_is_stopped_goes_on_to_the_same_end(
    trainer: Trainer, longer: Path, whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run, step = RunDir(tmp_path / "run"), 0
    for _ in range(2):
        process = started(trainer, longer, run.path, step + 3)
        assert stopped_by(process, number) == SIGNALS[number], process.said
        assert "Stopped after step" in process.said
        step = verified(run.stopped).step
        assert 3 <= step < STEPS
        assert run.latest.read_text(encoding="utf-8") == "stopped\n"
        assert read_events(run.events)[-1].data["message"] == "stopped"
    assert (run.path / "superseded" / "stopped-1").is_dir(), "the first stop is kept"
    code, said = trainer.run("train", str(longer), "--run-dir", str(run.path), "--resume", "auto")
    assert code == 0, said
    assert contents(run.final) == contents(whole / "final")
    assert told(run.path) == told(whole)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_two_signals_end_a_run_at_once_and_damage_nothing(
    trainer: Trainer, longer: Path, whole: Path, tmp_path: Path, second: signal.Signals
) -> None:
    run = RunDir(tmp_path / "run")
    process = started(trainer, longer, run.path, 2)
    process.kill(signal.SIGTERM)
    assert stopped_by(process, second) in {143, SIGNALS[second], -second}
    assert choose(run, "auto").step < STEPS
    code, said = trainer.run("train", str(longer), "--run-dir", str(run.path), "--resume", "auto")
    assert code == 0, said
    assert contents(run.final) == contents(whole / "final")


@pytest.fixture(scope="module")
def practising(
    tiny_directory: Path, make_tiny_model: MakeModel, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A recipe whose steps are rollouts for most of their time."""
    directory = tmp_path_factory.mktemp("practising")
    make_tiny_model().save_layer(directory / "layer")
    document = imitation(tiny_directory)
    objective = {"kind": "practice", "group_size": 4, "layer_path": str(directory / "layer")}
    changed = {"objective": objective, "steps": 6, "save_interval": 1000, "eval_interval": 1000}
    run = {**document["run"], **changed}
    return written({**document, "run": run}, directory / "recipe.yaml")


def test_a_signal_during_rollouts_ends_them_with_their_step(
    trainer: Trainer, practising: Path, tmp_path: Path
) -> None:
    undisturbed, run = tmp_path / "undisturbed", RunDir(tmp_path / "run")
    assert trainer.run("train", str(practising), "--run-dir", str(undisturbed))[0] == 0
    process = trainer.start("train", str(practising), "--run-dir", str(run.path))
    # A step tells of its replies when it is done: the next thing is the rollouts of the next one.
    wait_until(lambda: run.events.is_file() and hists(run) >= 2)
    assert stopped_by(process, signal.SIGTERM) == 143, process.said
    assert 2 <= verified(run.stopped).step < 6
    arguments = ("--run-dir", str(run.path), "--resume", "auto")
    code, said = trainer.run("train", str(practising), *arguments)
    assert code == 0, said
    assert contents(run.final) == contents(undisturbed / "final")


def hists(run: RunDir) -> int:
    return sum(event.kind is EventKind.HIST for event in read_events(run.events))


def test_a_signal_while_rollouts_are_collected_ends_the_run_and_it_begins_again(
    trainer: Trainer, tiny_directory: Path, tmp_path: Path
) -> None:
    document = imitation(tiny_directory)
    run = {**document["run"], "grad_accum": 1, "steps": 1, "objective": {"kind": "layer"}}
    data = {**document["data"], "num_prompts": 2000}
    changed = {"run": run, "data": data, "adaptation": {"enabled": False}}
    recipe = written({**document, **changed}, tmp_path / "recipe.yaml")
    there = RunDir(tmp_path / "run")
    process = trainer.start("train", str(recipe), "--run-dir", str(there.path))
    wait_until(lambda: there.events.is_file() and is_collecting(there))
    assert stopped_by(process, signal.SIGTERM) == 143, process.said
    assert "Stopped by SIGTERM before the first step" in process.said
    assert "Traceback" not in process.said
    assert there.leftovers() == []
    assert choose(there, "auto").step == 0


def is_collecting(run: RunDir) -> bool:
    return any(
        e.kind is EventKind.LOG and "rollouts" in str(e.data) for e in read_events(run.events)
    )


class Signalled:
    """Counts down, and is sent a signal while it makes a batch, steps, evaluates or saves."""

    is_finished = False

    def __init__(self, moment: str) -> None:
        self.moment = moment
        self.weight = nn.Parameter(torch.ones(3))
        self.optimizers = Optimizers([Group("weight", [self.weight], 0.1)])

    def now(self, moment: str) -> None:
        if moment == self.moment:
            os.kill(os.getpid(), signal.SIGTERM)

    def batches(self, start: int) -> Iterator[int]:
        for number in count(start):
            if number == 1:
                self.now("batch")
            yield number

    def parts(self, batch: int) -> list[int]:
        return [batch]

    def counts(self, _parts: Sequence[int]) -> Counts | None:
        return None

    def learner(self) -> Learner:
        return Learner()

    @contextmanager
    def step(
        self, part: int, _counts: Counts | None = None, _learner: Learner | None = None
    ) -> Iterator[StepResult]:
        if part == 1:
            self.now("step")
        loss = self.weight.square().sum()
        report = LossReport(loss, torch.tensor(1.0))
        yield StepResult(loss, {LossName.ANSWER: report}, {LossName.ANSWER: 1.0}, 1)

    def evaluate(self) -> dict[str, float]:
        self.now("evaluation")
        return {}

    def state(self) -> State:
        return State({}, {})

    def load_state(self, _state: State) -> None:
        """There is nothing to take up."""

    def save(self, directory: Path, *, whole: bool = True) -> None:
        assert not whole, "it is stopped before its end"
        (directory / "begun").write_bytes(b"")
        if directory.name.startswith(".checkpoint"):
            self.now("save")
        (directory / "ended").write_bytes(b"")


@pytest.mark.parametrize("moment", ["batch", "step", "evaluation", "save"])
def test_whatever_a_run_is_doing_it_finishes_the_step_and_saves_whole(
    tmp_path: Path, moment: str
) -> None:
    run, recorder = RunDir(tmp_path / "run"), Recorder("test", MultiSink({}))
    config = TrainingConfig(steps=9, save_interval=2, eval_interval=2, warmup=0)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RunStopped, match="after step 2") as caught, stoppable() as stop:
        fit(Signalled(moment), config, run=run, recorder=recorder, stop=stop)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    for directory in (run.checkpoint(2), run.stopped):
        assert verified(directory).step == 2
        assert (directory / "ended").is_file()
