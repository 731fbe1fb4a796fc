"""Small screens above another one: a choice of names, and a text to read."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Footer, OptionList, Static

from metacog.tui.literal import literal

_FRAME = "border: round $accent; background: $surface; padding: 0 1;"


class ChooseScreen(ModalScreen[str | None]):
    """Asks for one of several names; leaving without one gives None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back")]
    CSS = f"""
    ChooseScreen {{ align: center middle; background: $background 70%; }}
    ChooseScreen OptionList {{ width: 60%; height: 70%; {_FRAME} }}
    """

    def __init__(self, title: str, names: Sequence[str]) -> None:
        super().__init__()
        self._title, self._names = title, list(names)

    def compose(self) -> Iterator[Widget]:
        """Lay out the list."""
        yield OptionList(*self._names, markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Name the list."""
        self.query_one(OptionList).border_title = self._title

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Give the name that was chosen."""
        event.stop()
        self.dismiss(self._names[event.option_index])

    def action_leave(self) -> None:
        """Give none."""
        self.dismiss(None)


class TextScreen(ModalScreen[None]):
    """Shows a text as it is."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,y", "leave", "Back")]
    CSS = f"""
    TextScreen {{ align: center middle; background: $background 70%; }}
    TextScreen VerticalScroll {{ width: 80%; height: 90%; {_FRAME} }}
    """

    def __init__(self, title: str, words: str) -> None:
        super().__init__()
        self._title, self._words = title, words

    def compose(self) -> Iterator[Widget]:
        """Lay out the text."""
        with VerticalScroll():
            yield Static(literal(self._words), markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Name the frame."""
        self.query_one(VerticalScroll).border_title = self._title

    def action_leave(self) -> None:
        """Go back."""
        self.dismiss()
