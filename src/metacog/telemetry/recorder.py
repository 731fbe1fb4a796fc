"""The one place where a run's events are made."""

import time
from collections.abc import Callable, Mapping
from threading import Lock

from metacog.telemetry.events import Event, EventKind, finite
from metacog.telemetry.sinks import Sink


class Recorder:
    """Stamps what happens with run, step and time, and sends it to a sink, one event at a time.

    Only the first process of a distributed run owns one that writes.
    """

    def __init__(self, run: str, sink: Sink, *, clock: Callable[[], float] = time.time) -> None:
        self.run = run
        self.sink = sink
        self.step = 0
        """Step of the latest event."""
        self._clock = clock
        self._lock = Lock()

    def record(self, kind: EventKind, step: int, data: Mapping[str, object]) -> None:
        """Send one event; a number that is not finite becomes None and is followed by an alert."""
        self.step = step
        event = Event(time=self._clock(), run=self.run, step=step, kind=kind, data=data)
        with self._lock:  # a watching thread tells of stalls
            for part in finite(event):
                self.sink.write(part)

    def metrics(self, step: int, values: Mapping[str, float | int | None]) -> None:
        """Send numbers by name; None says that a number is missing."""
        self.record(EventKind.METRICS, step, values)

    def log(self, step: int, message: str) -> None:
        """Send a sentence for people."""
        self.record(EventKind.LOG, step, {"message": message})

    def alert(self, step: int, message: str) -> None:
        """Send a sentence about something that needs a person's eye."""
        self.record(EventKind.ALERT, step, {"message": message})

    def close(self) -> None:
        """Close the sink."""
        self.sink.close()
