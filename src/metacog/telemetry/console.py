"""Events as lines for people, with the time that is left."""

import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import IO, Protocol, cast, runtime_checkable

from rich.console import Console
from rich.text import Text

from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.samples import describe_sample

_SHOWN = (
    "train/loss",
    "train/grad_norm",
    "train/learning_rate/layer",
    "metacog/budget/predicted_mean",
    "metacog/budget/used_mean",
    "rl/reward",
    "perf/tokens_per_s",
    "perf/points_per_s",
)
"""Metrics worth a place on the line, in this order, as far as an event has them."""

_STYLES = {EventKind.ALERT: "bold yellow", EventKind.EVAL: "bold", EventKind.CHECKPOINT: "green"}


@runtime_checkable
class TextStream(Protocol):
    """What is written to: stderr, or a stand-in for it."""

    def write(self, text: str, /) -> int:
        """Write text and return its length."""

    def flush(self) -> None:
        """Hand over what was written."""

    def isatty(self) -> bool:
        """Return whether a terminal is attached."""


class ConsoleSink:
    """Writes a line for each event that a person wants to see, to stderr unless told otherwise.

    Metrics come at most every few seconds; everything else comes at once. Colours are used only
    where a terminal is attached.
    """

    def __init__(
        self,
        stream: TextStream | None = None,
        *,
        num_steps: int | None = None,
        seconds_between_metrics: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream: TextStream = sys.stderr if stream is None else stream
        self._terminal = (
            Console(file=cast(IO[str], self._stream), soft_wrap=True)
            if self._stream.isatty()
            else None
        )
        self._num_steps = num_steps
        self._seconds_between_metrics = seconds_between_metrics
        self._clock = clock
        self._first: tuple[int, float] | None = None
        self._last_metrics: float | None = None

    def write(self, event: Event) -> None:
        """Show the event, if it is of a kind for people."""
        text = self._metrics(event) if event.kind is EventKind.METRICS else _describe(event)
        if text is None:
            return
        line = _printable(f"{self._position(event)}  {text}")
        if self._terminal is None:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        else:
            self._terminal.print(Text(line, style=_STYLES.get(event.kind, "")))

    def close(self) -> None:
        """Leave the stream open; it was lent."""
        self._stream.flush()

    def _metrics(self, event: Event) -> str | None:
        if self._first is None:
            self._first = (event.step, event.time)
        now = self._clock()
        is_last = event.step == self._num_steps
        waited = self._last_metrics is None or (
            now - self._last_metrics >= self._seconds_between_metrics
        )
        if not (waited or is_last):
            return None
        self._last_metrics = now
        return _numbers({name: event.data[name] for name in _SHOWN if name in event.data})

    def _position(self, event: Event) -> str:
        """Return the step, and the share done and time left where the number of steps is known."""
        if self._num_steps is None:
            return f"step {event.step}"
        share = event.step / self._num_steps
        width = len(str(self._num_steps))
        place = f"step {event.step:>{width}}/{self._num_steps} {share:4.0%}"
        left = self._seconds_left(event)
        return place if left is None else f"{place}  eta {timedelta(seconds=round(left))}"

    def _seconds_left(self, event: Event) -> float | None:
        """Return the time left at the mean speed since the first metrics, of a resumed run too."""
        if self._first is None or self._num_steps is None:
            return None
        done, seconds = event.step - self._first[0], event.time - self._first[1]
        if done <= 0 or seconds <= 0:
            return None
        return max(self._num_steps - event.step, 0) * seconds / done


def _describe(event: Event) -> str | None:
    """Return the text of an event that is not metrics, or None for one that only machines read."""
    data = event.data
    match event.kind:
        case EventKind.LOG | EventKind.STATUS:
            return str(data.get("message", _numbers(data)))
        case EventKind.ALERT:
            return f"ALERT {data.get('message', _numbers(data))}"
        case EventKind.CHECKPOINT:
            return f"checkpoint {data.get('path', '')}".rstrip()
        case EventKind.SAMPLE:
            return describe_sample(data)
        case EventKind.EVAL:
            return f"eval {_numbers(data)}"
        case _:
            return None


def _numbers(values: Mapping[str, object]) -> str:
    """Return names and values on one line; a missing number shows as `-`."""
    return "  ".join(f"{name} {_short(value)}" for name, value in values.items())


def _printable(text: str) -> str:
    """Return text that stays on its line and sends the terminal no commands."""
    return "".join(char if char.isprintable() else " " for char in text)


def _short(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
