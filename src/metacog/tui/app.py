"""The cockpit as a Textual application."""

from pathlib import Path
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import HelpPanel

from metacog.telemetry.rundir import RunDir
from metacog.tui.commands import KeysProvider
from metacog.tui.screens.dashboard import Dashboard
from metacog.tui.screens.home import HomeScreen
from metacog.tui.screens.inspect import InspectScreen
from metacog.tui.theme import THEMES


class Cockpit(App[None]):
    """Shows one screen at a time; leaving it leaves every run as it is.

    Args:
        first: The screen to begin with.
    """

    TITLE = "metacog"
    CSS = """
    OptionList > .option-list--option-highlighted { background: $primary 20%; color: $foreground; }
    OptionList:focus > .option-list--option-highlighted { background: $primary 25%; color: $foreground; }
    OptionList, VerticalScroll { scrollbar-size-vertical: 1; scrollbar-color: $foreground 25%;
        scrollbar-background: $background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Leave"),
        Binding("f1", "keys", "Keys", show=False),
        Binding("f2", "picture", "Screenshot", show=False, priority=True),
        Binding("i", "inspect", "Inspect a model", show=False),
    ]

    COMMANDS = App.COMMANDS | {KeysProvider}

    def __init__(self, first: Screen[None]) -> None:
        super().__init__()
        self._first = first

    def on_mount(self) -> None:
        """Put on the look and open the first screen."""
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name
        self.push_screen(self._first)

    def action_keys(self) -> None:
        """Show all keys beside the screen, or hide them."""
        if self.screen.query(HelpPanel):
            self.action_hide_help_panel()
        else:
            self.action_show_help_panel()

    def action_inspect(self) -> None:
        """Ask the bundled model."""
        if not isinstance(self.screen, InspectScreen):
            self.push_screen(InspectScreen("nano"))

    def action_picture(self) -> None:
        """Save the screen as SVG in the present directory."""
        number = 1
        while (path := Path(f"metacog-{number}.svg")).exists():
            number += 1
        try:
            path.write_text(self.export_screenshot(), encoding="utf-8")
        except OSError as error:
            self.notify(
                f"Wanted to write {path}: {error.strerror}.", severity="error", markup=False
            )
            return
        self.notify(f"Saved {path}.", markup=False)


def cockpit(runs: Path) -> Cockpit:
    """Return the cockpit over the runs of a directory."""
    return Cockpit(HomeScreen(runs))


def attached(run: RunDir) -> Cockpit:
    """Return a cockpit that shows one run and may stop it."""
    return Cockpit(Dashboard(run))


def watching(run: RunDir) -> Cockpit:
    """Return a cockpit that shows one run and has no way to touch it."""
    return Cockpit(Dashboard(run, can_stop=False))
