"""The dashboard: everything that happens in one run, live or as it was at some step."""

from collections.abc import Iterator
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

from metacog.errors import InputError
from metacog.telemetry.rundir import RunDir
from metacog.tui.follow import Follower, Whole, state_at
from metacog.tui.literal import literal
from metacog.tui.screens.inspect import InspectScreen
from metacog.tui.screens.puzzles import PuzzlesScreen
from metacog.tui.state import RunState
from metacog.tui.stop import Ladder
from metacog.tui.widgets.panel import Panel
from metacog.tui.widgets.panels import PANELS
from metacog.tui.widgets.scrubber import Scrubber
from metacog.tui.widgets.status import status_line, tab_line

SECONDS_BETWEEN_LOOKS = 0.4
_COLUMNS = (("global", "data"), ("metacog", "feedback"), ("eval", "alerts", "log"))
_NARROW, _LOW = 100, 30
_SCRUBS = 20
"""Presses of a key from one end of a replay to the other."""


class Dashboard(Screen[None]):
    """Shows a run and never touches it, but to stop it where that is allowed and asked for.

    Args:
        run: Whose events are followed.
        can_stop: Whether its process may be asked to stop from here.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(n), f"panel('{name}')", name.capitalize(), show=False)
            for n, name in enumerate(PANELS, 1)
        ),
        Binding("enter", "zoom", "Zoom"),
        Binding("escape", "back", "Back"),
        Binding("t", "puzzles", "Thinking"),
        Binding("space", "pause", "Pause view"),
        Binding("left_square_bracket", "scrub(-1)", "Earlier", key_display="["),
        Binding("right_square_bracket", "scrub(1)", "Later", key_display="]"),
        Binding("comma", "judged(-1)", "Evaluation before", key_display=",", show=False),
        Binding("full_stop", "judged(1)", "Evaluation after", key_display=".", show=False),
        Binding("home", "scrub_to(0)", "Start", show=False),
        Binding("end", "live", "Now", show=False),
        Binding("s", "stage", "Stage", show=False),
        Binding("i", "inspect", "Inspect"),
        Binding("x", "stop", "Stop run"),
    ]
    CSS = """
    Dashboard { background: $background; }
    #status { height: 1; padding: 0 1; background: $surface; text-wrap: nowrap; text-overflow: ellipsis; }
    #tabs { height: 1; padding: 0 1; text-wrap: nowrap; display: none; }
    #tabs.-shown { display: block; }
    #notice { height: auto; max-height: 3; padding: 0 1; color: $warning; display: none; }
    #notice.-said { display: block; }
    #columns { height: 1fr; }
    #columns > Vertical { width: 1fr; }
    #global { height: 3fr; } #data { height: 5; }
    #metacog { height: 1fr; } #feedback { height: 9; }
    #eval { height: 3fr; scrollbar-gutter: stable; }
    #alerts { height: 1fr; } #log { height: 1fr; }
    .-off { display: none; }
    .-alone { height: 1fr !important; }
    """

    def __init__(self, run: RunDir, *, can_stop: bool = True) -> None:
        super().__init__()
        self.whole = Whole(run)
        self.shown = self.follower.state
        """What is painted: the state of now, or of the step that is replayed."""
        self.at: int | None = None
        self.is_paused = False
        self._ladder = Ladder() if can_stop else None
        self._is_looking = False
        self._zoomed: str | None = None
        self._chosen = "global"

    @property
    def follower(self) -> Follower:
        """What is shown: the run, or one stage of it."""
        return self.whole.current

    def compose(self) -> Iterator[Widget]:
        """Lay out the panels."""
        yield Static(id="status")
        yield Static(id="tabs")
        yield Static(id="notice", markup=False)
        with Horizontal(id="columns"):
            keys = {name: str(n) for n, name in enumerate(PANELS, 1)}
            for names in _COLUMNS:
                with Vertical():
                    yield from (Panel(name, keys[name], PANELS[name]) for name in names)
        yield Scrubber()
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.set_interval(SECONDS_BETWEEN_LOOKS, self.begin_look)
        self.begin_look()

    def on_resize(self) -> None:
        """Show one panel alone where there is no room for all."""
        self._arrange()
        self.call_after_refresh(self.begin_look)

    def begin_look(self) -> None:
        """Read what is new in a worker, unless one is at it still."""
        if not self._is_looking:
            self._is_looking = True
            self._look(self.at)

    @work(thread=True, group="look", exit_on_error=True)
    def _look(self, at: int | None) -> None:
        """Follow the run, and paint on the event loop while nothing changes the state."""
        try:
            self.whole.look()
            if at is None:
                shown = self.follower.state
            elif self.at == at and self.shown is not self.follower.state:
                shown = self.shown if self.shown.replays == at else self._replayed(at)
            else:
                shown = self._replayed(at)
            self.app.call_from_thread(self._paint, shown)
        finally:
            self._is_looking = False

    def _replayed(self, at: int) -> RunState:
        try:
            state = state_at(self.follower.run, at, self.follower.marks)
        except InputError:
            return self.follower.state
        state.replays = at
        return state

    def _paint(self, shown: RunState) -> None:
        if not self.query("#status"):
            return  # the screen was left while its files were read
        width = self.size.width - 2
        self.shown = shown
        at = None if shown is self.follower.state else shown.replays
        self.query_one("#status", Static).update(status_line(self.whole, shown, at, width))
        self.query_one(Scrubber).paint(self.follower.state, at)
        self._say(self.follower.trouble or self.whole.outer.trouble or self._last_words())
        if self.is_paused:
            return
        for panel in self.query(Panel):
            panel.paint(shown)

    def _last_words(self) -> str | None:
        words = self.whole.outer.last_words
        return literal(f"Its process ended. It last said: {words}") if words else None

    def _say(self, notice: str | None) -> None:
        paused = "View paused; the run goes on. Space goes on." if self.is_paused else None
        said = notice or (self._ladder.said if self._ladder else None) or paused
        line = self.query_one("#notice", Static)
        line.set_class(said is not None, "-said")
        line.update(said or "")

    def _arrange(self) -> None:
        is_small = self.size.width < _NARROW or self.size.height < _LOW
        alone = self._zoomed or (self._chosen if is_small else None)
        tabs = self.query_one("#tabs", Static)
        tabs.set_class(alone is not None, "-shown")
        tabs.update(tab_line(tuple(PANELS), alone))
        for panel in self.query(Panel):
            panel.set_class(alone is not None and panel.id != alone, "-off")
            panel.set_class(panel.id == alone, "-alone")
        for column in self.query("#columns > Vertical"):
            has = alone is None or any(panel.id == alone for panel in column.query(Panel))
            column.set_class(not has, "-off")

    def _show(self) -> None:
        self._arrange()
        self.query_one(f"#{self._chosen}", Panel).focus()
        self.call_after_refresh(self.begin_look)

    def action_panel(self, name: str) -> None:
        """Go to a panel."""
        self._chosen = name
        self._zoomed = name if self._zoomed else None
        self._show()

    def action_zoom(self) -> None:
        """Give the chosen panel the whole screen."""
        focused = self.focused
        if isinstance(focused, Panel) and focused.id:
            self._chosen = focused.id
        self._zoomed = self._chosen
        self._show()

    def action_back(self) -> None:
        """Leave zoom, else the dashboard."""
        if self._zoomed:
            self._zoomed = None
            self._show()
        elif len(self.app.screen_stack) > 2:
            self.app.pop_screen()

    def action_puzzles(self) -> None:
        """Write out the thinking of the puzzles."""
        self.app.push_screen(PuzzlesScreen(dict(self.shown.puzzles)))

    def action_pause(self) -> None:
        """Hold what is shown, or go on."""
        self.is_paused = not self.is_paused
        self.begin_look()

    def action_scrub(self, direction: int) -> None:
        """Go to an earlier or later step of what has happened."""
        newest = self.follower.state.step or 0
        stride = max(newest // _SCRUBS, 1)
        there = (newest if self.at is None else self.at) + direction * stride
        self.action_live() if there >= newest else self.action_scrub_to(there)

    def action_scrub_to(self, step: int) -> None:
        """Show the run as it was at a step."""
        self.at = max(step, 0)
        self.begin_look()

    def action_judged(self, direction: int) -> None:
        """Go to the evaluation before or after what is shown."""
        newest = self.follower.state.step or 0
        here = newest if self.at is None else self.at
        steps = [s for s in self.follower.state.evaluations if (s - here) * direction > 0]
        if steps:
            self.action_scrub_to(min(steps, key=lambda step: abs(step - here)))

    def on_scrubber_chosen(self, event: Scrubber.Chosen) -> None:
        """Go to the step that was clicked."""
        event.stop()
        is_newest = event.step >= (self.follower.state.step or 0)
        self.action_live() if is_newest else self.action_scrub_to(event.step)

    def action_stage(self) -> None:
        """Go to another stage of a schedule."""
        self.whole.turn()
        self.action_live()

    def action_inspect(self) -> None:
        """Ask the model that this run has saved last."""
        saved = self.follower.run.newest_save()
        if saved is None:
            self.app.notify("Nothing was saved yet; there is no model to ask.", markup=False)
            return
        self.app.push_screen(InspectScreen(str(saved)))

    def action_live(self) -> None:
        """Show the run as it is now."""
        self.at = None
        self.begin_look()

    def action_stop(self) -> None:
        """Ask the run to stop; asked again, end it at once; a third time, kill it."""
        if self._ladder is not None:
            self._ladder.step(self.whole.outer.pid)
            self.begin_look()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what is not allowed here."""
        del parameters
        return action != "stop" or self._ladder is not None
