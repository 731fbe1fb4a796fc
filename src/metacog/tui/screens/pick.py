"""Chooses a file or directory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Footer, OptionList
from textual.widgets.option_list import Option

from metacog.tui.literal import one_line
from metacog.tui.theme import BRIGHT, DIM, FAIL, PLAIN
from metacog.tui.widgets.lines import text

_MOST_SHOWN = 2000


class PickScreen(ModalScreen[Path | None]):
    """Walks through directories; gives what was taken, or None.

    Args:
        begin: Where it begins: a directory, or something in one.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open, or take a file"),
        Binding("space", "take", "Take"),
        Binding("backspace,left", "up", "Up"),
        Binding("escape", "leave", "Back"),
    ]
    CSS = """
    PickScreen { align: center middle; background: $background 70%; }
    PickScreen OptionList { width: 80%; height: 80%; border: round $accent;
        background: $surface; padding: 0 1; }
    """

    def __init__(self, begin: Path) -> None:
        super().__init__()
        self.place = _directory(begin.absolute())
        self._entries: list[Path] = []

    def compose(self) -> Iterator[Widget]:
        """Lay out the list."""
        yield OptionList(markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Show where it begins."""
        self._go(self.place)

    def _go(self, place: Path) -> None:
        self.place = place
        self.query_one(OptionList).border_title = one_line(str(place), 70)
        self._look(place)

    @work(thread=True, exclusive=True, group="pick")
    def _look(self, place: Path) -> None:
        trouble, found = None, list[tuple[bool, Path]]()
        try:
            with os.scandir(place) as entries:
                found = [(not entry.is_dir(), Path(entry.path)) for entry in entries]
        except OSError as error:
            trouble = f"{error.strerror}. Backspace goes up."
        self.app.call_from_thread(self._paint, place, sorted(found)[:_MOST_SHOWN], trouble)

    def _paint(self, place: Path, found: list[tuple[bool, Path]], trouble: str | None) -> None:
        if place != self.place or not self.is_attached:
            return
        table = self.query_one(OptionList)
        table.clear_options()
        self._entries = [path for _, path in found]
        options = [
            Option(text(one_line(path.name, 120), PLAIN))
            if is_file
            else Option(text(f"{one_line(path.name, 120)}/", BRIGHT))
            for is_file, path in found
        ]
        said = trouble or ("" if options else "Empty. Backspace goes up, space takes it.")
        nothing = Option(text(said, FAIL if trouble else DIM), disabled=True)
        table.add_options(options or [nothing])
        table.highlighted = 0 if options else None

    def _chosen(self) -> Path | None:
        at = self.query_one(OptionList).highlighted
        return None if at is None or at >= len(self._entries) else self._entries[at]

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Open a directory, or take a file."""
        event.stop()
        self.action_open()

    def action_open(self) -> None:
        """Open a directory, or take a file."""
        if (chosen := self._chosen()) is not None:
            self._go(chosen) if chosen.is_dir() else self.dismiss(chosen)

    def action_take(self) -> None:
        """Take what is highlighted, be it a directory; of an empty directory, itself."""
        self.dismiss(self._chosen() or self.place)

    def action_up(self) -> None:
        """Go to the directory above."""
        self._go(self.place.parent)

    def action_leave(self) -> None:
        """Give none."""
        self.dismiss(None)


def _directory(place: Path) -> Path:
    while not place.is_dir():
        place = place.parent
    return place
