"""Memory of a run that goes on ten times as long, over a stream ten times as long, stays where it was."""

from pathlib import Path

import pytest

from metacog.config import parse
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.train.run import train
from tests.textdata import rows, write_jsonl

FIRST, LAST = 30, 300
MOST_MIB = 24.0


@pytest.mark.parametrize("batch", [4])
def test_ten_times_the_steps_and_the_rows_take_no_more_memory(
    tiny_directory: Path, tmp_path: Path, batch: int
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", rows(batch * LAST * 2))
    document = {
        "model": {"path": str(tiny_directory)},
        "data": {"path": str(path), "shuffle_buffer": 16, "validation_rows": 2},
        "metacog": {"proj_dim": 8},
        "adaptation": {"enabled": True, "mode": "ln_only", "last_k": 1},
        "budget": {"min_tokens": 1, "max_tokens": 24, "answer_reserve": 8},
        "logging": {"sinks": ["jsonl"]},
        "run": {
            "steps": LAST,
            "batch": batch,
            "warmup": 0,
            "eval_interval": 100_000,
            "objective": {"kind": "imitate", "cut_after": 5},
        },
    }
    run = train(parse(document, source="test"), run_dir=tmp_path / "run")
    held = {
        event.step: float(str(event.data["perf/memory"]))
        for event in read_events(run.events)
        if event.kind is EventKind.METRICS
    }
    assert held[FIRST] > 50, "a process with torch holds more than that"
    assert held[LAST] < held[FIRST] + MOST_MIB
