"""The puzzles one by one, with all that was thought and answered."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Footer, Static

from metacog.tui.state import Puzzle
from metacog.tui.widgets.puzzles import unfolded


class PuzzlesScreen(ModalScreen[None]):
    """Shows one puzzle at a time, as it was when the screen was opened."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "go(1)", "Next"),
        Binding("p", "go(-1)", "Previous"),
        Binding("f", "fold", "Fold THINK"),
        Binding("escape,t", "close", "Back"),
    ]
    CSS = """
    PuzzlesScreen { align: center middle; background: $background 70%; }
    #puzzle { width: 90%; height: 90%; border: round $accent; background: $surface; padding: 1 2; }
    """

    def __init__(self, puzzles: Mapping[tuple[str, int], Puzzle]) -> None:
        super().__init__()
        self._puzzles = [puzzles[key] for key in sorted(puzzles)]
        self._place = 0
        self._is_folded = False

    def compose(self) -> Iterator[Widget]:
        """Lay out the one text."""
        with VerticalScroll(id="puzzle"):
            yield Static(id="reply")
        yield Footer()

    def on_mount(self) -> None:
        """Show the first."""
        self._paint()

    def on_resize(self) -> None:
        """Draw the rules anew."""
        self._paint()

    def _paint(self) -> None:
        frame = self.query_one("#puzzle", VerticalScroll)
        reply = self.query_one("#reply", Static)
        if not self._puzzles:
            frame.border_title = "NO PUZZLE WAS ASKED YET"
            return
        frame.border_title = f"PUZZLE {self._place + 1} OF {len(self._puzzles)}"
        width = max(self.size.width * 9 // 10 - 8, 20)
        reply.update(unfolded(self._puzzles[self._place], width, is_folded=self._is_folded))

    def action_go(self, direction: int) -> None:
        """Go to another puzzle."""
        if self._puzzles:
            self._place = (self._place + direction) % len(self._puzzles)
            self._paint()

    def action_fold(self) -> None:
        """Fold THINK away, or write it out."""
        self._is_folded = not self._is_folded
        self._paint()

    def action_close(self) -> None:
        """Go back."""
        self.dismiss()
