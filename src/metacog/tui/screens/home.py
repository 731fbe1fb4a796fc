"""The first screen: the runs that there are, and the way to a new one."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option

from metacog.errors import InputError, MetacogError
from metacog.telemetry.attempt import trainer_of
from metacog.telemetry.lock import holder
from metacog.telemetry.rundir import RunDir
from metacog.tui.launch import resume
from metacog.tui.literal import literal, one_line
from metacog.tui.runs import Listed, list_runs
from metacog.tui.screens.dashboard import Dashboard
from metacog.tui.screens.launcher import LauncherScreen
from metacog.tui.stop import Ladder
from metacog.tui.theme import BRIGHT, DIM, FAIL, OK, WARN
from metacog.tui.widgets.lines import text
from metacog.tui.widgets.status import duration

_SECONDS_BETWEEN_LOOKS = 2.0
_STYLES = {
    "● training": OK,
    "● done": DIM,
    "■ stopped": WARN,
    "✖ crashed": FAIL,
    "✖ no access": FAIL,
}
_TITLE = "M E T A C O G"


class HomeScreen(Screen[None]):
    """Lists runs.

    Args:
        runs: Directory in which they lie.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New run"),
        Binding("enter", "open", "Open", show=True),
        Binding("r", "resume", "Resume"),
        Binding("f", "fork", "Fork"),
        Binding("x", "stop", "Stop"),
    ]
    CSS = """
    HomeScreen { background: $background; }
    #title { height: 3; padding: 1 2; color: $accent; text-style: bold; }
    #runs { height: 1fr; border: round $foreground 25%; background: $background; margin: 0 1; }
    #runs:focus { border: round $accent 80%; }
    #said { height: auto; max-height: 4; padding: 0 2; color: $warning; display: none; }
    #said.-said { display: block; }
    """

    def __init__(self, runs: Path) -> None:
        super().__init__()
        self._directory = runs
        self._listed: list[Listed] = []
        self._ladders: dict[str, Ladder] = {}

    def compose(self) -> Iterator[Widget]:
        """Lay out title and list."""
        yield Static(_TITLE, id="title")
        yield OptionList(id="runs", markup=False)
        yield Static(id="said", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one("#runs").border_title = f"RUNS IN {self._directory}"
        self.set_interval(_SECONDS_BETWEEN_LOOKS, self._look)
        self._look()

    @work(thread=True, exclusive=True, group="runs")
    def _look(self) -> None:
        try:
            found = list_runs(self._directory)
        except InputError as error:
            self.app.call_from_thread(self._say, str(error))
            return
        self.app.call_from_thread(self._paint, found)

    def _say(self, words: str | None) -> None:
        if not self.query("#said"):
            return  # as in `_paint`
        line = self.query_one("#said", Static)
        line.set_class(bool(words), "-said")
        line.update(literal(words or ""))

    def _paint(self, found: list[Listed]) -> None:
        if not self.query("#runs"):
            return  # the screen was left while its files were read
        table = self.query_one("#runs", OptionList)
        chosen = table.highlighted
        name = self._listed[chosen].run.name if chosen is not None and self._listed else None
        self._listed = found
        table.clear_options()
        if not found:
            table.add_option(Option(text("No run yet. Press n for a new one.", DIM), disabled=True))
            return
        table.add_options([Option(_row(listed)) for listed in found])
        names = [listed.run.name for listed in found]
        table.highlighted = names.index(name) if name in names else 0

    def chosen(self) -> Listed | None:
        """Return the run under the cursor."""
        place = self.query_one("#runs", OptionList).highlighted
        return None if place is None or place >= len(self._listed) else self._listed[place]

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Open the run that was chosen."""
        event.stop()
        if (listed := self.chosen()) is not None:
            self.app.push_screen(Dashboard(listed.run))

    def action_open(self) -> None:
        """Open the highlighted run."""
        self.query_one("#runs", OptionList).action_select()

    def action_new(self) -> None:
        """Prepare a new run."""
        self.app.push_screen(LauncherScreen(self._directory))

    def action_resume(self) -> None:
        """Go on with the run under the cursor from its newest whole checkpoint."""
        if (listed := self.chosen()) is not None:
            self._resume(listed.run)

    @work(thread=True, exclusive=True, group="resume")
    def _resume(self, run: RunDir) -> None:
        try:
            resume(run)
        except MetacogError as error:
            self.app.call_from_thread(self._say, str(error))
            return
        self.app.call_from_thread(self.app.push_screen, Dashboard(run))

    def action_fork(self) -> None:
        """Prepare a new run from the configuration of the one under the cursor."""
        if (listed := self.chosen()) is not None:
            self._fork(listed.run)

    @work(thread=True, exclusive=True, group="fork")
    def _fork(self, run: RunDir) -> None:
        try:
            config = run.load_config()
        except MetacogError as error:
            self.app.call_from_thread(self._say, str(error))
            return
        screen = LauncherScreen(self._directory, filled=config)
        self.app.call_from_thread(self.app.push_screen, screen)

    def action_stop(self) -> None:
        """Take the next rung of the ladder for the run under the cursor."""
        if (listed := self.chosen()) is None:
            return
        ladder = self._ladders.setdefault(listed.run.name, Ladder())
        ladder.step(holder(listed.run.lock) or trainer_of(listed.run))
        self._say(f"{listed.run.name}: {ladder.said}")
        self._look()


def _row(listed: Listed) -> Content:
    ago = duration(max(time.time() - listed.changed, 0.0))
    ago = listed.trouble or f"{ago} ago"
    word = f"{listed.word:<12}"
    name = f"{one_line(listed.run.name, 40):<40}"
    return Content("").join(
        [text(word, _STYLES[listed.word]), text(f" {name}", BRIGHT), text(f" {ago}", DIM)]
    )
