"""Follows a run's directory: its events as they come, and whether its process is alive."""

import time
from dataclasses import dataclass, field
from enum import StrEnum

from metacog.errors import InputError
from metacog.telemetry.attempt import Attempt
from metacog.telemetry.lock import holder
from metacog.telemetry.reader import EventTail, LogReplaced
from metacog.telemetry.rundir import RunDir
from metacog.tui.marks import Marks
from metacog.tui.state import RunState

STALE_SECONDS = 30.0
"""Without an event for so long, what is shown is called stale."""
_CHUNK = 1 << 19
_SLACK = 2.0
"""Seconds that a last word may lie before the last event."""


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
    last_words: str = ""
    """Of the process that was started last, once it has ended without a word in the log."""
    marks: Marks = field(default_factory=Marks)
    """What was known on the way."""

    def __post_init__(self) -> None:
        self._tail = EventTail(self.run.events)
        self._was_started = False

    def look(self) -> None:
        """Take all that was written since the last look."""
        attempt = Attempt.newest(self.run)
        self.pid = holder(self.run.lock) or (None if attempt is None else attempt.pid())
        try:
            self._take()
            self.trouble = None
        except (InputError, OSError) as error:
            self.trouble = str(error)
        is_gone = attempt is not None and self.pid is None and self.state.end is None
        self._was_started = attempt is not None
        self.last_words = ""
        if attempt is not None and is_gone:
            last = self.state.last_time
            self.last_words = attempt.last_words(after=None if last is None else last - _SLACK)

    def _take(self) -> None:
        """Read on; from the start where a run that went on has cut its log and tells later steps anew."""
        try:
            self._read()
        except LogReplaced:
            self.state, self.marks = RunState(), Marks()
            self._tail = EventTail(self.run.events)
            self._read()

    def _read(self) -> None:
        while events := self._tail.read(most_bytes=_CHUNK):
            self.state.take(events)
            self.marks.note(self._tail.place, self.state)

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
            return Pulse.GONE if self._was_started or age is not None else Pulse.WAITING
        if age is None:
            return Pulse.WAITING
        return Pulse.STALE if age > STALE_SECONDS else Pulse.LIVE


class Whole:
    """Follows a run, and the stages of a schedule, each of which is a run below it.

    Args:
        run: Directory of the run.
    """

    def __init__(self, run: RunDir) -> None:
        self.outer = Follower(run)
        self.chosen: int | None = None
        """Number of the stage that is shown, from 0; None for the newest."""
        self._stages: dict[str, Follower] = {}

    @property
    def current(self) -> Follower:
        """The stage that is shown, or the run where it has none."""
        stages = self.outer.state.stages
        if not stages:
            return self.outer
        name = stages[-1 if self.chosen is None else min(self.chosen, len(stages) - 1)]
        if name not in self._stages:
            self._stages[name] = Follower(RunDir(self.outer.run.path / name))
        return self._stages[name]

    @property
    def name(self) -> str:
        """What is shown, by its name."""
        return "/".join(dict.fromkeys([self.outer.run.name, self.current.run.name]))

    def look(self) -> None:
        """Take all that was written since the last look."""
        self.outer.look()
        if self.current is not self.outer:
            self.current.look()

    def turn(self) -> None:
        """Go to the stage before the one that is shown; from the first one to the newest."""
        stages = self.outer.state.stages
        if len(stages) > 1:
            now = len(stages) - 1 if self.chosen is None else self.chosen
            self.chosen = now - 1 if now else None

    def pulse(self) -> Pulse:
        """Return how the stage that is shown is, and the run where it is the newest."""
        whole, shown = self.outer.pulse(), self.current.pulse()
        is_over = whole in {Pulse.DONE, Pulse.STOPPED, Pulse.GONE}
        return whole if self.chosen is None and is_over else shown


def state_at(run: RunDir, step: int, marks: Marks | None = None) -> RunState:
    """Return what was known of a run when it had done `step` steps.

    Args:
        run: Whose log is read.
        step: The last one that counts.
        marks: What was known on the way, so that only events since the nearest one are read.

    Raises:
        InputError: If a line of its log is no event.
    """
    start, state = (marks or Marks()).before(step)
    tail = EventTail(run.events, start)
    while events := tail.read(most_bytes=_CHUNK):
        known = [event for event in events if event.step <= step]
        state.take(known)
        if len(known) < len(events):
            break
    return state
