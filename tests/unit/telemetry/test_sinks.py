import json
import logging
from importlib.util import find_spec
from pathlib import Path

import pytest

from metacog.config.data import SinkName
from metacog.errors import ConfigError, SinkError
from metacog.telemetry.events import Event, EventKind, encode
from metacog.telemetry.reader import read_events
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.sinks import JsonlSink, MultiSink, RunFiles, Sink, open_sinks, require_sinks


def event(step: int) -> Event:
    return Event(time=float(step), run="r", step=step, kind=EventKind.LOG, data={"message": "m"})


class ListSink:
    """Keeps what it takes; fails from the event of step `fails_at` on."""

    def __init__(self, fails_at: int | None = None, error: Exception | None = None) -> None:
        self.events: list[Event] = []
        self.is_closed = False
        self._fails_at = fails_at
        self._error = OSError("disk full") if error is None else error

    def write(self, event: Event) -> None:
        if self._fails_at is not None and event.step >= self._fails_at:
            raise self._error
        self.events.append(event)

    def close(self) -> None:
        self.is_closed = True


def test_each_event_is_on_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.jsonl"
    sink = JsonlSink(path)
    for step in (1, 2):
        sink.write(event(step))
        lines = path.read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(1, step + 1))
    sink.close()


def test_a_second_sink_appends(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for step in (1, 2):
        sink = JsonlSink(path)
        sink.write(event(step))
        sink.close()
    assert read_events(path) == [event(1), event(2)]


@pytest.mark.parametrize("torn", ["", "{", encode(event(9)), "x" * 200_000])
def test_a_torn_line_is_cut_off_before_the_next(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(f"{encode(event(1))}\n{torn}")
    sink = JsonlSink(path)
    sink.write(event(2))
    sink.close()
    assert path.read_text() == f"{encode(event(1))}\n{encode(event(2))}\n"


def test_a_file_of_one_torn_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"v":1')
    sink = JsonlSink(path)
    sink.write(event(1))
    sink.close()
    assert path.read_text() == f"{encode(event(1))}\n"


@pytest.mark.parametrize("error", [OSError("disk full"), SinkError("disk full")])
def test_a_failing_sink_is_reported_once_and_dropped(error: Exception) -> None:
    bad, good = ListSink(fails_at=2, error=error), ListSink()
    sinks = MultiSink({"bad": bad, "good": good})
    for step in (1, 2, 3):
        sinks.write(event(step))
    assert [(e.step, e.kind) for e in good.events] == [
        (1, EventKind.LOG),
        (2, EventKind.LOG),
        (2, EventKind.ALERT),
        (3, EventKind.LOG),
    ]
    assert "bad" in str(good.events[2].data["message"])
    assert "disk full" in str(good.events[2].data["message"])
    assert [e.step for e in bad.events] == [1]
    assert sinks.names == ("good",)


def test_training_goes_on_without_any_sink(caplog: pytest.LogCaptureFixture) -> None:
    sinks = MultiSink({"only": ListSink(fails_at=1)})
    with caplog.at_level(logging.WARNING):
        sinks.write(event(1))
        sinks.write(event(2))
    assert sinks.names == ()
    assert len(caplog.records) == 1
    assert "No sink is left" in caplog.text


def test_two_failures_at_once_are_two_alerts() -> None:
    good = ListSink()
    sinks = MultiSink({"a": ListSink(fails_at=1), "good": good, "b": ListSink(fails_at=1)})
    sinks.write(event(1))
    assert [e.data.get("sink") for e in good.events] == [None, "a", "b"]


def test_a_mistake_of_ours_is_not_swallowed() -> None:
    sinks = MultiSink({"wrong": ListSink(fails_at=1, error=KeyError("bug"))})
    with pytest.raises(KeyError):
        sinks.write(event(1))


def test_close_reaches_every_sink() -> None:
    sinks = [ListSink(), ListSink()]
    MultiSink({"a": sinks[0], "b": sinks[1]}).close()
    assert [sink.is_closed for sink in sinks] == [True, True]


def test_a_sink_that_could_not_be_opened_is_told_with_the_first_event() -> None:
    good = ListSink()
    sinks = MultiSink({"good": good}, lost={"wandb": "no disk"})
    sinks.write(event(1))
    sinks.write(event(2))
    assert [(e.step, e.kind) for e in good.events] == [
        (1, EventKind.LOG),
        (1, EventKind.ALERT),
        (2, EventKind.LOG),
    ]
    assert "wandb failed" in str(good.events[1].data["message"])
    assert "no disk" in str(good.events[1].data["message"])


def test_replies_stand_in_a_file_of_their_own_too(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    sample = Event(time=2.0, run="r", step=2, kind=EventKind.SAMPLE, data={"answer": "5"})
    files = RunFiles(run)
    for one in (event(1), sample, event(3)):
        files.write(one)
    files.close()
    assert read_events(run.events) == [event(1), sample, event(3)]
    assert read_events(run.samples) == [sample]


def test_the_named_sinks_are_opened(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    sinks = open_sinks(("jsonl", "console"), run, num_steps=10)
    assert sinks.names == ("jsonl", "console")
    assert isinstance(sinks, Sink)
    sinks.write(event(1))
    sinks.close()
    assert read_events(run.events) == [event(1)]


def test_what_needs_no_tracker_is_never_refused() -> None:
    require_sinks(("jsonl", "console"))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_is_not_there_names_its_extra(name: SinkName, tmp_path: Path) -> None:
    if find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    for refuse in (
        lambda: require_sinks(("jsonl", name)),
        lambda: open_sinks(("jsonl", name), RunDir(tmp_path)),
    ):
        with pytest.raises(ConfigError, match=rf"logging\.sinks wanted {name}.*metacog\[track\]"):
            refuse()
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_cannot_begin_is_left_out_with_an_alert(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.tensorboard.write_text("a file where the directory goes", encoding="utf-8")
    sinks = open_sinks(("jsonl", "tensorboard"), run)
    assert sinks.names == ("jsonl",)
    sinks.write(event(1))
    sinks.close()
    told = read_events(run.events)
    assert [e.kind for e in told] == [EventKind.LOG, EventKind.ALERT]
    assert "tensorboard" in str(told[1].data["message"])
