"""A framed part of the dashboard that repaints only what is seen and has changed."""

from collections.abc import Iterator

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from metacog.tui.state import RunState
from metacog.tui.widgets.panels import Painter


class Panel(VerticalScroll):
    """Shows what a painter says of a run.

    Args:
        name: Of the panel, which is its title too.
        key: Digit that goes to it.
        painter: Says what is shown.
    """

    DEFAULT_CSS = """
    Panel { border: round $foreground 25%; border-title-color: $accent; padding: 0 1;
            border-subtitle-color: $foreground 50%; scrollbar-size-vertical: 1; background: $background; }
    Panel:focus { border: round $accent 80%; }
    Panel > Static { width: 1fr; height: auto; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, name: str, key: str, painter: Painter) -> None:
        super().__init__(id=name)
        self.border_title = f"{key} {name.upper()}"
        self._painter = painter
        self._body = Static("")
        self._shown = Content("")

    def compose(self) -> Iterator[Widget]:
        """Hold one text."""
        yield self._body

    def paint(self, state: RunState) -> None:
        """Say what is known now; nothing happens where the panel is not seen."""
        size = self.scrollable_content_region.size
        if not self.is_on_screen or size.width < 4:
            return
        content = self._painter(state, size.width, size.height)
        if not content.is_same(self._shown):
            self._shown = content
            self._body.update(content)
