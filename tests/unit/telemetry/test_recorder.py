import math

from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.recorder import Recorder


class ListSink:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_closed = False

    def write(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.is_closed = True


def test_everything_recorded_carries_run_step_and_time() -> None:
    sink = ListSink()
    recorder = Recorder("layer-1", sink, clock=iter([10.0, 11.0, 12.0]).__next__)
    recorder.metrics(1, {"train/loss": 0.5, "train/entropy": None})
    recorder.log(2, "hello")
    recorder.alert(3, "look")
    recorder.close()
    assert sink.events == [
        Event(
            time=10.0,
            run="layer-1",
            step=1,
            kind=EventKind.METRICS,
            data={"train/loss": 0.5, "train/entropy": None},
        ),
        Event(time=11.0, run="layer-1", step=2, kind=EventKind.LOG, data={"message": "hello"}),
        Event(time=12.0, run="layer-1", step=3, kind=EventKind.ALERT, data={"message": "look"}),
    ]
    assert sink.is_closed


def test_a_number_that_is_not_finite_is_missing_and_told() -> None:
    sink = ListSink()
    Recorder("r", sink).metrics(7, {"train/loss": math.nan})
    assert [(e.kind, e.step) for e in sink.events] == [
        (EventKind.METRICS, 7),
        (EventKind.ALERT, 7),
    ]
    assert sink.events[0].data == {"train/loss": None}
    assert sink.events[1].data["names"] == ["train/loss"]
