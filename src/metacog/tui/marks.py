"""What was known of a run at some places of its log: where a replay begins, instead of at the start."""

from bisect import bisect_right
from dataclasses import dataclass, field

from metacog.telemetry.reader import Place
from metacog.tui.state import RunState

_MOST = 24
"""Kept at once."""
_EVENTS_APART = 500
"""At first; twice as many each time there are too many marks."""


@dataclass
class Marks:
    """Copies of a run's state with their places, in rising order; at most 24, evenly apart."""

    _found: list[tuple[Place, RunState]] = field(default_factory=list)
    _apart: int = _EVENTS_APART

    def note(self, place: Place, state: RunState) -> None:
        """Take a copy of what is known, where the last mark is far enough."""
        last = self._found[-1][1].num_events if self._found else 0
        if state.num_events - last < self._apart:
            return
        self._found.append((place, state.copy()))
        if len(self._found) > _MOST:
            self._found, self._apart = self._found[1::2], 2 * self._apart

    def before(self, step: int) -> tuple[Place, RunState]:
        """Return the last place before which no event is later than `step`, and what was known there.

        The state is a copy; without a mark it is an empty one, at the start of the log.
        """
        steps = [state.step or 0 for _, state in self._found]
        index = bisect_right(steps, step) - 1
        if index < 0:
            return Place(), RunState()
        place, state = self._found[index]
        return place, state.copy()
