from collections.abc import Mapping, Sequence

import pytest

from metacog.errors import ConfigError, SinkError
from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.sinks import Sink
from metacog.telemetry.trackers import Tracker, TrackerSink, as_markdown, library, numbers_of


class OddError(Exception):
    """What a library's own error derives from."""


class Notebook:
    """A tracker that writes down what it is told, and fails from the third call on if asked to."""

    failures = (OddError,)

    def __init__(self, error: Exception | None = None) -> None:
        self.notes: list[tuple[str, object]] = []
        self._error = error

    def _note(self, *what: object) -> None:
        if self._error is not None and len(self.notes) == 2:
            raise self._error
        self.notes.append((str(what[0]), what[1]))

    def config(self, event: Event) -> None:
        self._note("config", dict(event.data))

    def numbers(self, event: Event, values: Mapping[str, float]) -> None:
        self._note("numbers", (event.step, dict(values)))

    def samples(self, samples: Sequence[Event]) -> None:
        self._note("samples", [sample.data["number"] for sample in samples])

    def alert(self, event: Event, message: str) -> None:
        self._note("alert", (event.step, message))

    def close(self) -> None:
        self._note("close", None)


def told(step: int, kind: EventKind, **data: object) -> Event:
    return Event(time=1.0, run="r", step=step, kind=kind, data=data)


def test_each_kind_goes_where_it_belongs_and_samples_go_together() -> None:
    notebook = Notebook()
    sink = TrackerSink("notebook", notebook)
    assert isinstance(notebook, Tracker)
    assert isinstance(sink, Sink)
    for event in (
        told(0, EventKind.CONFIG, run={"steps": 3}),
        told(0, EventKind.LOG, message="m"),
        told(1, EventKind.METRICS, **{"train/loss": 0.5, "rl/reward": None}),
        told(2, EventKind.SAMPLE, number=1),
        told(2, EventKind.SAMPLE, number=2),
        told(2, EventKind.EVAL, **{"eval/puzzles/accuracy": 1}),
        told(2, EventKind.ALERT, message="look"),
        told(3, EventKind.SAMPLE, number=1),
    ):
        sink.write(event)
    sink.close()
    assert notebook.notes == [
        ("config", {"run": {"steps": 3}}),
        ("numbers", (1, {"train/loss": 0.5})),
        ("samples", [1, 2]),
        ("numbers", (2, {"eval/puzzles/accuracy": 1.0})),
        ("alert", (2, "look")),
        ("samples", [1]),
        ("close", None),
    ]


def test_a_failing_library_becomes_the_error_that_drops_the_sink() -> None:
    sink = TrackerSink("notebook", Notebook(OddError("gone")))
    sink.write(told(1, EventKind.METRICS))
    sink.write(told(2, EventKind.METRICS))
    with pytest.raises(SinkError, match="notebook: OddError: gone"):
        sink.write(told(3, EventKind.METRICS))
    with pytest.raises(SinkError, match="gone"):
        sink.close()


def test_numbers_leave_out_what_is_no_point_of_a_curve() -> None:
    data = {"a": 1, "b": 0.5, "missing": None, "flag": True, "text": "x", "list": [1]}
    assert numbers_of(data) == {"a": 1.0, "b": 0.5}


def test_markup_in_a_reply_is_shown_and_not_obeyed() -> None:
    shown = as_markdown({"answer": "# big\n```\n**bold**", "empty": ""})
    assert shown == "**answer**\n\n    # big\n    ```\n    **bold**\n\n**empty**\n\n    "


def test_a_library_that_is_not_there_is_named_with_its_extra() -> None:
    assert library("json").__name__ == "json"
    with pytest.raises(ConfigError, match=r"wanted none_such.*metacog\[track\].*out of logging"):
        library("none_such.part")
