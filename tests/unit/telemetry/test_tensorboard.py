import subprocess
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.tensorboard import TensorBoardTracker
from metacog.telemetry.trackers import TrackerSink


def told(step: int, kind: EventKind, **data: object) -> Event:
    return Event(time=100.0 + step, run="r", step=step, kind=kind, data=data)


def written(directory: Path) -> EventAccumulator:
    found = EventAccumulator(str(directory))
    found.Reload()
    return found


def texts(found: EventAccumulator, tag: str) -> list[str]:
    return [e.tensor_proto.string_val[0].decode() for e in found.Tensors(tag)]


def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    sink = TrackerSink("tensorboard", TensorBoardTracker(tmp_path / "tb"))
    sink.write(told(0, EventKind.CONFIG, run={"steps": 3}))
    sink.write(told(10, EventKind.METRICS, **{"train/loss": 0.5, "rl/reward": None}))
    sink.write(told(10, EventKind.SAMPLE, suite="puzzles", number=2, answer="**5**", correct=True))
    sink.write(told(20, EventKind.METRICS, **{"train/loss": 0.25}))
    sink.write(told(20, EventKind.ALERT, message="look"))
    sink.close()
    found = written(tmp_path / "tb")
    assert set(found.Tags()["tensors"]) == {"config", "train/loss", "samples/puzzles/2", "alerts"}
    curve = [
        (e.step, e.wall_time, e.tensor_proto.float_val[0]) for e in found.Tensors("train/loss")
    ]
    assert curve == [(10, 110.0, 0.5), (20, 120.0, 0.25)]
    assert '    "run": {' in texts(found, "config")[0]
    assert texts(found, "samples/puzzles/2") == [
        "**answer**\n\n    **5**\n\n**correct**\n\n    True"
    ]
    assert texts(found, "alerts") == ["    look"]


def test_what_was_told_is_on_disk_while_the_run_goes_on(tmp_path: Path) -> None:
    tracker = TensorBoardTracker(tmp_path)
    tracker.numbers(told(1, EventKind.METRICS), {"train/loss": 0.5})
    assert written(tmp_path).Tags()["tensors"] == ["train/loss"]
    tracker.close()


def test_it_costs_no_torch(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import sys\n"
        "from metacog.telemetry.tensorboard import TensorBoardTracker\n"
        f"TensorBoardTracker(Path({str(tmp_path)!r})).close()\n"
        "sys.stdout.write(' '.join({'torch', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
