import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    find_spec("trackio") is None, reason="trackio is not installed: pip install 'metacog[track]'"
)

# trackio reads TRACKIO_DIR once, when it is imported: so a process of its own.
_SCRIPT = """
import json, sys
from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.trackers import TrackerSink
from metacog.telemetry.trackio import TrackioTracker

def told(step, kind, **data):
    return Event(time=1.0, run="r", step=step, kind=kind, data=data)

sink = TrackerSink("trackio", TrackioTracker(run="mine"))
sink.write(told(0, EventKind.CONFIG, run={"steps": 3}))
sink.write(told(10, EventKind.METRICS, **{"train/loss": 0.5}))
sink.write(told(10, EventKind.SAMPLE, suite="puzzles", number=1, answer="5", correct=True))
sink.write(told(20, EventKind.EVAL, **{"eval/puzzles/accuracy": 1.0}))
sink.write(told(20, EventKind.ALERT, message="look"))
sink.close()

import trackio
from trackio.sqlite_storage import SQLiteStorage
run = trackio.Api().runs("metacog")[0]
json.dump({
    "name": run.name,
    "config": run.config["run"],
    "logs": SQLiteStorage.get_logs("metacog", "mine"),
    "alerts": [alert["text"] for alert in SQLiteStorage.get_alerts("metacog")],
}, sys.stdout)
"""


def test_a_local_run_holds_numbers_config_samples_and_alerts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TRACKIO_DIR": str(tmp_path)},
    )
    found = json.loads(done.stdout)  # and so nothing else stood on stdout
    assert (found["name"], found["config"], found["alerts"]) == ("mine", {"steps": 3}, ["look"])
    numbers, table, last = found["logs"]
    assert (numbers["step"], numbers["train/loss"]) == (10, 0.5)
    assert table["samples/puzzles"]["_value"][0]["answer"] == "5"
    assert (last["step"], last["eval/puzzles/accuracy"]) == (20, 1.0)
    assert (tmp_path / "metacog.db").is_file()
