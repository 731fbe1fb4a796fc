"""Where events go: the JSONL files, the console, trackers, and several receivers at once."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from metacog.config.data import SinkName
from metacog.errors import SinkError
from metacog.telemetry.console import ConsoleSink
from metacog.telemetry.events import Event, EventKind, encode
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.tensorboard import TensorBoardTracker
from metacog.telemetry.trackers import LIBRARIES, TrackerSink, library
from metacog.telemetry.trackio import TrackioTracker
from metacog.telemetry.wandb import WandbTracker

_log = logging.getLogger(__name__)


@runtime_checkable
class Sink(Protocol):
    """Takes events. It raises `OSError` or `SinkError` when it cannot go on."""

    def write(self, event: Event) -> None:
        """Take one event."""

    def close(self) -> None:
        """Finish what was begun; no event follows."""


class JsonlSink:
    """Appends one line for each event and hands it to the system at once, so readers can follow.

    A line that an earlier crash left without its end is cut off before the first new one.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a+b")
        self._cut_torn_line()

    def write(self, event: Event) -> None:
        """Append the event."""
        self._file.write(f"{encode(event)}\n".encode())
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cut_torn_line(self) -> None:
        end = self._file.seek(0, os.SEEK_END)
        start = end
        while start > 0:
            block = min(start, 65536)
            start = self._file.seek(start - block)
            newline = self._file.read(block).rfind(b"\n")
            if newline >= 0:
                start += newline + 1
                break
        if start < end:
            self._file.truncate(start)


class RunFiles:
    """A run's own files: `events.jsonl` with everything, `samples.jsonl` with the replies again."""

    def __init__(self, run: RunDir) -> None:
        self._events, self._samples = JsonlSink(run.events), JsonlSink(run.samples)

    def write(self, event: Event) -> None:
        """Append the event."""
        self._events.write(event)
        if event.kind is EventKind.SAMPLE:
            self._samples.write(event)

    def close(self) -> None:
        """Close both files."""
        self._events.close()
        self._samples.close()


class MultiSink:
    """Sends each event to every sink; one that fails is reported once and dropped.

    Telemetry never stops training, so a failure becomes an alert to the sinks that are left.

    Args:
        sinks: What takes events, by name.
        lost: Why a sink could not be opened, by name: told with the first event.
    """

    def __init__(self, sinks: Mapping[str, Sink], *, lost: Mapping[str, str] | None = None) -> None:
        self._sinks = dict(sinks)
        self._lost = dict(lost or {})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sinks that still take events."""
        return tuple(self._sinks)

    def write(self, event: Event) -> None:
        """Send the event to every sink that is left."""
        pending = [event, *(_alert(name, why, event) for name, why in self._lost.items())]
        self._lost.clear()
        while pending:
            current = pending.pop(0)
            for name, sink in tuple(self._sinks.items()):
                try:
                    sink.write(current)
                except (OSError, SinkError) as error:
                    pending.append(self._drop(name, error, current))

    def close(self) -> None:
        """Close every sink that is left."""
        for name, sink in tuple(self._sinks.items()):
            try:
                sink.close()
            except (OSError, SinkError) as error:
                _log.warning("Sink %s failed to close: %s.", name, error)
        self._sinks.clear()

    def _drop(self, name: str, error: Exception, event: Event) -> Event:
        """Take a failed sink out and return the alert about it."""
        del self._sinks[name]
        if not self._sinks:
            _log.warning("Sink %s failed: %s. No sink is left; the run goes on.", name, error)
        return _alert(name, str(error), event)


def _alert(name: str, why: str, event: Event) -> Event:
    """Return the alert about a sink that failed at an event."""
    return Event(
        time=event.time,
        run=event.run,
        step=event.step,
        kind=EventKind.ALERT,
        data={"message": f"Sink {name} failed and takes no more events: {why}.", "sink": name},
    )


def require_sinks(names: Iterable[SinkName]) -> None:
    """Refuse a tracker whose library is not there, before a run has a directory.

    Raises:
        ConfigError: Naming the tracker and what to install.
    """
    for name in names:
        if name in LIBRARIES:
            library(LIBRARIES[name])


def open_sinks(
    names: Iterable[SinkName], run: RunDir, *, num_steps: int | None = None
) -> MultiSink:
    """Return one sink that feeds those named in `logging.sinks`.

    A tracker that cannot begin is left out, with an alert: telemetry never stops training.

    Raises:
        ConfigError: If a tracker's library is not there; see `require_sinks`.
    """
    builders: dict[SinkName, Callable[[], Sink]] = {
        "jsonl": lambda: RunFiles(run),
        "console": lambda: ConsoleSink(num_steps=num_steps),
        "tensorboard": lambda: TrackerSink("tensorboard", TensorBoardTracker(run.tensorboard)),
        "wandb": lambda: TrackerSink("wandb", WandbTracker(run.path, run=run.name)),
        "trackio": lambda: TrackerSink("trackio", TrackioTracker(run=run.name)),
    }
    wanted = tuple(names)
    require_sinks(wanted)
    sinks: dict[str, Sink] = {}
    lost: dict[str, str] = {}
    for name in wanted:
        try:
            sinks[name] = builders[name]()
        except SinkError as error:
            lost[name] = str(error)
    return MultiSink(sinks, lost=lost)
