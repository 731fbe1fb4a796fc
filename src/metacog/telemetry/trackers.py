"""What an event is to a tracker, and the sink that hands it over."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Protocol, runtime_checkable

from metacog.errors import ConfigError, SinkError
from metacog.telemetry.events import Event, EventKind

LIBRARIES: Mapping[str, str] = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
}
"""Package that each tracker needs; all come with the extra `track`."""

FAILURES: tuple[type[Exception], ...] = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
)
"""What a library raises that cannot go on; each tracker adds its own."""

SAMPLE_COLUMNS = (
    "question",
    "wanted",
    "thinking",
    "answer",
    "correct",
    "think_tokens",
    "budget",
    "close_reason",
)
"""What a table of samples shows, in this order."""


@runtime_checkable
class Tracker(Protocol):
    """A run in a tracker, as `TrackerSink` drives it."""

    failures: tuple[type[Exception], ...]
    """What its library raises when it cannot go on."""

    def config(self, event: Event) -> None:
        """Keep the configuration that the run was started with."""

    def numbers(self, event: Event, values: Mapping[str, float]) -> None:
        """Add one point to the curve of each name, at the event's step."""

    def samples(self, samples: Sequence[Event]) -> None:
        """Show replies that belong together."""

    def alert(self, event: Event, message: str) -> None:
        """Show a sentence about something that needs a person's eye."""

    def close(self) -> None:
        """Write what is left."""


class TrackerSink:
    """Sends configuration, numbers, samples and alerts to a tracker; other kinds it has no place for.

    Samples are held back until an event of another kind comes, and then go as one table.

    Raises:
        SinkError: From every method, when the tracker's library fails.
    """

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name, self._tracker = name, tracker
        self._held: list[Event] = []

    def write(self, event: Event) -> None:
        """Send one event, or hold a sample back."""
        if event.kind is EventKind.SAMPLE:
            self._held.append(event)
            return
        with sink_errors(self._name, self._tracker.failures):
            self._release()
            self._send(event)

    def close(self) -> None:
        """Send what was held back and finish the run."""
        with sink_errors(self._name, self._tracker.failures):
            self._release()
            self._tracker.close()

    def _release(self) -> None:
        held, self._held = self._held, []
        if held:
            self._tracker.samples(held)

    def _send(self, event: Event) -> None:
        match event.kind:
            case EventKind.METRICS | EventKind.EVAL:
                self._tracker.numbers(event, numbers_of(event.data))
            case EventKind.CONFIG:
                self._tracker.config(event)
            case EventKind.ALERT:
                self._tracker.alert(event, str(event.data.get("message", dict(event.data))))


@contextmanager
def sink_errors(name: str, failures: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn what a tracker's library raises into the error that drops its sink."""
    try:
        yield
    except failures as error:
        raise SinkError(f"{name}: {type(error).__name__}: {error}") from error


def library(name: str) -> ModuleType:
    """Import what a tracker needs, by the full name of a module of it.

    Raises:
        ConfigError: If it is not installed, or cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        tracker = name.partition(".")[0]
        raise ConfigError(
            f"logging.sinks wanted {tracker}, got none: {error}. Install it with the extra `track` "
            f"(pip install 'metacog[track]'), or take {tracker} out of logging.sinks."
        ) from error


def numbers_of(data: Mapping[str, object]) -> dict[str, float]:
    """Return what can be a point of a curve; a missing number is no point."""
    return {
        name: float(value)
        for name, value in data.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def sample_name(sample: Event) -> str:
    """Return a name under which the same question is found again at every step."""
    return f"samples/{sample.data.get('suite', 'replies')}/{sample.data.get('number', 0)}"


def as_markdown(data: Mapping[str, object]) -> str:
    """Return a sample's parts as Markdown, each value literally: indented, so nothing in it is markup."""
    parts = [f"**{name}**\n\n{literal(str(value))}" for name, value in data.items()]
    return "\n\n".join(parts)


def literal(text: str) -> str:
    """Return text as an indented Markdown block."""
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])
