"""The line of a run's steps: where one is, where it was judged, and a place to click."""

from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from metacog.tui.state import RunState
from metacog.tui.theme import BRIGHT, DIM, FAINT, WARN
from metacog.tui.widgets.lines import text

_ENDS = 10
"""Characters of the number at each end."""


class Scrubber(Static):
    """Shows all steps of a run as a line, and says which one was clicked."""

    class Chosen(Message):
        """A step was clicked."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    DEFAULT_CSS = "Scrubber { height: 1; padding: 0 1; text-wrap: nowrap; }"

    def __init__(self) -> None:
        super().__init__(id="scrubber")
        self._newest = 0

    def paint(self, known: RunState, at: int | None) -> None:
        """Draw the steps up to now, and the place of the one that is shown; None for now."""
        self._newest = known.step or 0
        room = self._room
        cells = ["─"] * room
        for step in known.evaluations:
            cells[self._column(step)] = "┴"
        alerts = {self._column(told.step) for told in known.alerts}
        here = self._column(self._newest if at is None else at)
        parts = [text(f"{'0':>{_ENDS - 2}} ├", DIM)]
        for column, cell in enumerate(cells):
            if column == here:
                parts.append(text("●" if at is None else "◆", BRIGHT if at is None else WARN))
            elif column in alerts:
                parts.append(text("▲", WARN))
            else:
                parts.append(text(cell, FAINT if column > here else DIM))
        parts.append(text(f"┤ {self._newest}", DIM))
        self.update(Content("").join(parts))

    @property
    def _room(self) -> int:
        return max(self.size.width - 2 * _ENDS, 1)

    def _column(self, step: int) -> int:
        share = step / self._newest if self._newest else 1.0
        return min(max(round(share * (self._room - 1)), 0), self._room - 1)

    def on_click(self, event: Click) -> None:
        """Say which step is at the place of the click."""
        place = event.get_content_offset(self)
        if place is None:
            return
        share = (place.x - _ENDS) / max(self._room - 1, 1)
        self.post_message(self.Chosen(round(min(max(share, 0.0), 1.0) * self._newest)))
