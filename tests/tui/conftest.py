"""A run's directory, written as a run writes it, without a process."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from metacog.config import RunConfig, dump
from metacog.telemetry.events import Event, EventKind, encode
from metacog.telemetry.rundir import RunDir

WriteRun = Callable[..., RunDir]


def event(step: int, kind: str, time: float = 1_750_000_000.0, **data: object) -> Event:
    named = {name.replace("__", "/"): value for name, value in data.items()}
    return Event(time=time + step, run="r", step=step, kind=EventKind(kind), data=named)


def puzzle(step: int, *, correct: bool = True, number: int = 1, **changed: object) -> Event:
    data = {
        "suite": "puzzles",
        "number": number,
        "id": "a",
        "question": "How many bits of 7 are set?",
        "wanted": "3",
        "thinking": "111\nso 3",
        "answer": "3" if correct else "4",
        "correct": correct,
        "think_tokens": 8,
        "budget": 20,
        "close_reason": "natural",
        "plan": "verify",
        "confidence": 0.75,
        "since": step,
        "before": None,
    }
    return Event(
        time=1_750_000_000.0 + step,
        run="r",
        step=step,
        kind=EventKind.SAMPLE,
        data={**data, **changed},
    )


def lines(events: Iterable[Event]) -> str:
    return "".join(f"{encode(e)}\n" for e in events)


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    def write(events: Iterable[Event] = (), *, name: str = "r") -> RunDir:
        run = RunDir(tmp_path / name)
        run.path.mkdir()
        run.config.write_text(dump(RunConfig()), encoding="utf-8")
        run.events.write_text(lines(events), encoding="utf-8")
        return run

    return write


@pytest.fixture
def some_events() -> list[Event]:
    config = json.loads(RunConfig().model_dump_json())
    events = [
        event(0, "config", **config),
        *(event(s, "metrics", train__loss=5.0 - s / 100) for s in range(10, 101, 10)),
        puzzle(50, correct=False),
        puzzle(100),
        event(100, "eval", eval__puzzles__accuracy=1.0),
        event(100, "alert", message="gradient is large", alert="gradient"),
        event(100, "log", message="hello"),
    ]
    return sorted(events, key=lambda e: e.step)
