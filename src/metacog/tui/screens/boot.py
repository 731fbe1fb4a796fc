"""What is checked before a run starts, as it becomes known, and the first batch with its masks."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

from metacog.config import RunConfig
from metacog.telemetry.boot import CHECKS, Check, Piece
from metacog.tui.boot import Boot
from metacog.tui.theme import BRIGHT, DIM, FAIL, FAINT, OK, PLAIN, WARN
from metacog.tui.widgets.lines import join, text

_NAME = 15
_LEARNED = {"prompt": PLAIN, "think": "$accent", "close": WARN, "answer": BRIGHT, "row": BRIGHT}
_TICKS = "◐◓◑◒"


class BootScreen(Screen[bool]):
    """Looks at all that a run needs; gives True where it is to be started.

    Args:
        config: Of the run.
        runs: Directory in which it will be made.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", "Start training"),
        Binding("escape", "leave", "Back"),
    ]
    CSS = """
    BootScreen { background: $background; }
    #boot { height: 1fr; border: round $accent 80%; background: $background; padding: 0 1; }
    #verdict { height: auto; max-height: 6; padding: 0 2; background: $surface; }
    """

    def __init__(self, config: RunConfig, runs: Path) -> None:
        super().__init__()
        self.found: dict[str, Check] = {}
        """The checks that are known, by name."""
        self._boot = Boot(config, runs)
        self._ticks = 0

    def compose(self) -> Iterator[Widget]:
        """Lay out checks and verdict."""
        with VerticalScroll(id="boot"):
            yield Static(id="checks")
        yield Static(id="verdict")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one("#boot").border_title = "BEFORE THE START"
        self.query_one("#boot").focus()
        self.set_interval(0.25, self._tick)
        self._paint()
        self._look()

    def on_unmount(self) -> None:
        """Leave no process behind."""
        self._boot.leave()

    def on_resize(self) -> None:
        """Wrap anew."""
        self._paint()

    @property
    def is_right(self) -> bool:
        """Whether everything was looked at and found right."""
        return set(self.found) == set(CHECKS) and self.wrong is None

    @property
    def wrong(self) -> Check | None:
        """The check that is wrong, if one is."""
        return next((check for check in self.found.values() if not check.is_right), None)

    @work(thread=True, exclusive=True, group="boot")
    def _look(self) -> None:
        for check in self._boot.checks():
            self.app.call_from_thread(self._take, check)

    def _take(self, check: Check) -> None:
        self.found[check.name] = check
        if self.is_attached:
            self._paint()
            self.refresh_bindings()

    def _tick(self) -> None:
        """Let the check that is going on be seen to go on."""
        if not self.is_right and self.wrong is None:
            self._ticks += 1
            self._paint()

    def _paint(self) -> None:
        now = next((name for name in CHECKS if name not in self.found), None)
        lines: list[Content] = []
        for name in CHECKS:
            lines += self._lines(name, is_now=name == now and self.wrong is None)
        rows = self.found["batch"].rows if "batch" in self.found else ()
        for number, row in enumerate(rows, 1):
            lines += [text(""), text(f"ROW {number} OF THE FIRST BATCH, learned where bright", DIM)]
            lines.append(_row(row))
        self.query_one("#checks", Static).update(join(lines))
        self.query_one("#verdict", Static).update(self._verdict())

    def _lines(self, name: str, *, is_now: bool) -> Iterator[Content]:
        check = self.found.get(name)
        if check is None:
            sign, style = (_TICKS[self._ticks % len(_TICKS)], PLAIN) if is_now else ("·", FAINT)
            yield text(f"{sign} {name}", style)
            return
        mark = text("● ", OK) if check.is_right else text("✖ ", FAIL)
        style = PLAIN if check.is_right else FAIL
        head, *rest = self._wrapped(check.says)
        yield Content("").join([mark, text(f"{name:<{_NAME}}", DIM), text(head, style)])
        for line in rest:
            is_caution = line.startswith("caution")
            yield text(f"{'':<{_NAME + 2}}{line}", WARN if is_caution else style)

    def _wrapped(self, words: str) -> list[str]:
        """Return lines that fit beside the names."""
        room = max(self.size.width - _NAME - 8, 20)
        lines = [wrap(line, room, replace_whitespace=False) for line in words.split("\n")]
        return [part for line in lines for part in line or [""]]

    def _verdict(self) -> Content:
        if (wrong := self.wrong) is not None:
            return text(f"✖ {wrong.name}: {wrong.says} Nothing was started.", FAIL)
        if self.is_right:
            return text("● All is right. Enter starts training, escape goes back.", OK)
        return text(f"{len(self.found)} of {len(CHECKS)} looked at; nothing is started yet.", DIM)

    def action_start(self) -> None:
        """Start, where all is right."""
        if self.is_right:
            self.dismiss(True)

    def action_leave(self) -> None:
        """Go back to the form as it was."""
        self.dismiss(False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Show the key that starts as out of use until all is right."""
        del parameters
        return True if action != "start" or self.is_right else None


def _row(row: tuple[Piece, ...]) -> Content:
    """Return a row, each part in its brightness; what is not learned is faint."""
    parts = [
        text(piece.text.rstrip("\n"), _LEARNED.get(piece.part, PLAIN) if piece.learned else FAINT)
        for piece in row
    ]
    return Content("").join(parts)
