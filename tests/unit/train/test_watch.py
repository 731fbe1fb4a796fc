from collections.abc import Mapping
from pathlib import Path

import pytest

from metacog.model.bundle import MetacogModel
from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.sinks import JsonlSink
from metacog.train.alerts import Bound
from metacog.train.stall import Pulse
from metacog.train.watch import Answering, Watch, watching


class Memory:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        """Nothing was opened."""


class Judged:
    """An objective with figures and no replies."""

    def evaluate(self) -> Mapping[str, float]:
        return {"eval/validation/loss": 0.5}


class Replying(Judged):
    """An objective with a model that replies."""

    def __init__(self, model: MetacogModel) -> None:
        self._model = model

    def current(self) -> MetacogModel:
        return self._model


def kinds(memory: Memory) -> list[tuple[int, EventKind]]:
    return [(event.step, event.kind) for event in memory.events]


def test_an_evaluation_is_the_puzzles_and_then_one_event(
    tiny_model: MetacogModel, tmp_path: Path
) -> None:
    memory, objective = Memory(), Replying(tiny_model)
    assert isinstance(objective, Answering)
    with watching(objective, run=RunDir(tmp_path), recorder=Recorder("r", memory)) as watch:
        watch.evaluate(7, objective)
    each = [EventKind.SAMPLE] * 8 + [EventKind.HEATMAP] * 3 + [EventKind.EVAL]
    assert kinds(memory) == [(7, kind) for kind in each]
    samples, figures = memory.events[:8], memory.events[-1].data
    assert [grid.data["name"] for grid in memory.events[8:11]] == ["gate", "alpha", "agreement"]
    right = sum(bool(sample.data["correct"]) for sample in samples)
    assert figures["eval/validation/loss"] == 0.5
    assert figures["eval/puzzles/accuracy"] == right / 8
    used = [int(str(sample.data["think_tokens"])) for sample in samples]
    assert figures["eval/puzzles/think_tokens"] == pytest.approx(sum(used) / 8)
    assert {"question", "thinking", "answer", "budget", "close_reason"} <= samples[0].data.keys()


class Sure(Judged):
    """An objective that knows how far its confidence holds."""

    def evaluate(self) -> Mapping[str, float]:
        return {"eval/validation/loss": 0.5, "reliability/share/3": 1.0, "reliability/right/3": 0.5}


def test_a_reliability_diagram_is_a_grid_of_its_own(tmp_path: Path) -> None:
    memory = Memory()
    with watching(Sure(), run=RunDir(tmp_path), recorder=Recorder("r", memory)) as watch:
        watch.evaluate(3, Sure())
    diagram, figures = memory.events
    assert (diagram.kind, diagram.data["name"]) == (EventKind.HEATMAP, "reliability")
    assert diagram.data["rows"] == ["share", "said", "right"]
    nobody = [None] * 10
    values = [[*nobody[:3], 1.0, *nobody[4:]], nobody, [*nobody[:3], 0.5, *nobody[4:]]]
    assert diagram.data["values"] == values
    assert figures.data == {"eval/validation/loss": 0.5}


def test_an_objective_without_replies_has_figures_alone(tmp_path: Path) -> None:
    memory = Memory()
    with watching(Judged(), run=RunDir(tmp_path), recorder=Recorder("r", memory)) as watch:
        watch.evaluate(3, Judged())
    assert kinds(memory) == [(3, EventKind.EVAL)]
    assert memory.events[0].data == {"eval/validation/loss": 0.5}


def test_a_run_that_goes_on_takes_up_what_was_known_at_its_start(
    tiny_model: MetacogModel, tmp_path: Path
) -> None:
    run, objective = RunDir(tmp_path), Replying(tiny_model)
    sink = JsonlSink(run.samples)
    with watching(objective, run=run, recorder=Recorder("r", sink)) as watch:
        for step in (10, 20):
            watch.evaluate(step, objective)
    sink.close()
    for start, since in ((20, 10), (5, 30)):
        memory = Memory()
        with watching(objective, run=run, recorder=Recorder("r", memory), start=start) as watch:
            watch.evaluate(30, objective)
        assert {event.data["since"] for event in memory.events[:8]} == {since}


def test_watchers_speak_as_alerts_and_clear_as_logs() -> None:
    memory = Memory()
    bound = Bound("high", "x", "above", 0.9, 0.5, 1, "It is bad.", "Lower it.")
    watch = Watch(Recorder("r", memory), Pulse(), watchers=(bound,))
    for step, value in enumerate((0.0, 1.0, 1.0, 0.0), 1):
        watch.after(step, {"x": value})
    assert kinds(memory) == [(2, EventKind.ALERT), (4, EventKind.LOG)]
    assert memory.events[0].data["alert"] == "high"
    assert "Lower it." in str(memory.events[0].data["message"])


def test_a_stall_is_an_alert_and_its_end_a_log() -> None:
    now = [0.0]
    memory, pulse = Memory(), Pulse(factor=20.0, least=30.0, clock=lambda: now[0])
    watch = Watch(Recorder("r", memory), pulse)
    for step in range(1, 11):
        now[0] += 1
        watch.after(step, {})
    now[0] += 60
    late = pulse.overdue()
    assert late is not None
    watch.stalled(*late)
    now[0] += 5
    watch.after(11, {})
    assert kinds(memory) == [(10, EventKind.ALERT), (11, EventKind.LOG)]
    assert "no step for 60 s, where one takes 1 s" in str(memory.events[0].data["message"])
    assert "after 65 s" in str(memory.events[1].data["message"])
