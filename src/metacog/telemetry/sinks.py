"""Where events go: the JSONL file, the console, and several receivers at once."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from metacog.config.data import SinkName
from metacog.errors import ConfigError, SinkError
from metacog.telemetry.console import ConsoleSink
from metacog.telemetry.events import Event, EventKind, encode

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


class MultiSink:
    """Sends each event to every sink; one that fails is reported once and dropped.

    Telemetry never stops training, so a failure becomes an alert to the sinks that are left.
    """

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self._sinks = dict(sinks)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sinks that still take events."""
        return tuple(self._sinks)

    def write(self, event: Event) -> None:
        """Send the event to every sink that is left."""
        pending = [event]
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
        message = f"Sink {name} failed and takes no more events: {error}."
        if not self._sinks:
            _log.warning("%s No sink is left; the run goes on unrecorded.", message)
        return Event(
            time=event.time,
            run=event.run,
            step=event.step,
            kind=EventKind.ALERT,
            data={"message": message, "sink": name},
        )


def open_sinks(
    names: Iterable[SinkName], *, events_path: Path, num_steps: int | None = None
) -> MultiSink:
    """Return one sink that feeds those named in `logging.sinks`.

    Raises:
        ConfigError: If a named sink is not available.
    """
    builders: dict[str, Callable[[], Sink]] = {
        "jsonl": lambda: JsonlSink(events_path),
        "console": lambda: ConsoleSink(num_steps=num_steps),
    }
    wanted: Sequence[str] = tuple(names)
    for name in wanted:
        if name not in builders:
            raise ConfigError(
                f"logging.sinks wanted one of {', '.join(builders)}, got {name}, which comes with "
                "the extra `track` (pip install 'metacog[track]') and is not available here. "
                f"Install it, or take {name} out of logging.sinks."
            )
    return MultiSink({name: builders[name]() for name in wanted})
