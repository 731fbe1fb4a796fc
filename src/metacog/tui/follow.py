"""Follows a run's directory: its events as they come, and whether its process is alive."""

import time
from dataclasses import dataclass, field
from enum import StrEnum

from metacog.errors import InputError
from metacog.telemetry.lock import holder
from metacog.telemetry.reader import EventTail
from metacog.telemetry.rundir import RunDir
from metacog.tui.state import RunState

STALE_SECONDS = 30.0
"""Without an event for so long, what is shown is called stale."""
_CHUNK = 1 << 20


class Pulse(StrEnum):
    """How a run is."""

    WAITING = "waiting"
    """Nothing was written yet."""
    LIVE = "live"
    """Its process is there and writes."""
    STALE = "stale"
    """Its process is there, and has written nothing for long."""
    DONE = "done"
    """It came to its end."""
    STOPPED = "stopped"
    """It was stopped, and what it had learned is saved."""
    GONE = "gone"
    """Its process has ended without a word."""


@dataclass
class Follower:
    """Keeps the state of a run up to date; `look` reads files, so call it off the event loop."""

    run: RunDir
    state: RunState = field(default_factory=RunState)
    trouble: str | None = None
    """Why the events cannot be read any further."""
    pid: int | None = None
    """Of the process that trains, if one does."""

    def __post_init__(self) -> None:
        self._tail = EventTail(self.run.events)

    def look(self) -> None:
        """Take all that was written since the last look."""
        self.pid = holder(self.run.lock)
        try:
            while events := self._tail.read(most_bytes=_CHUNK):
                self.state.take(events)
        except (InputError, OSError) as error:
            self.trouble = str(error)

    def age(self) -> float | None:
        """Return the seconds since the last event, or None before the first."""
        last = self.state.last_time
        return None if last is None else max(time.time() - last, 0.0)

    def pulse(self) -> Pulse:
        """Return how the run is, as far as the last look saw."""
        age = self.age()
        if self.state.end is not None:
            return Pulse.DONE if self.state.end == "done" else Pulse.STOPPED
        if self.pid is None:
            return Pulse.WAITING if age is None else Pulse.GONE
        if age is None:
            return Pulse.WAITING
        return Pulse.STALE if age > STALE_SECONDS else Pulse.LIVE


def state_at(run: RunDir, step: int) -> RunState:
    """Return what was known of a run when it had done `step` steps.

    Raises:
        InputError: If a line of its log is no event.
    """
    state, tail = RunState(), EventTail(run.events)
    while events := tail.read(most_bytes=_CHUNK):
        known = [event for event in events if event.step <= step]
        state.take(known)
        if len(known) < len(events):
            break
    return state
