"""Ask a loaded model: watch it read, plan, think against its budget and answer."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Input, Static

from metacog.tui.asked import Question
from metacog.tui.child import ModelChild, command
from metacog.tui.literal import literal, one_line
from metacog.tui.theme import BRIGHT, DIM, FAIL, OK, WARN
from metacog.tui.widgets.inspected import reading_lines, side_lines
from metacog.tui.widgets.lines import text

_SECONDS_BETWEEN_PAINTS = 0.3
_NARROW = 100
_PARTS = ("reading", "on", "off")
_TITLES = {"reading": "READING", "on": "REPLY", "off": "THE SAME, GATE OFF"}
_STYLES = {"◌": WARN, "●": OK, "✖": FAIL}


class InspectScreen(Screen[None]):
    """Shows one question at a time; the model lives in a process that ends with the screen.

    Args:
        model: Bundled name, directory of a model or run, or hub id.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", priority=True),
        Binding("ctrl+x", "stop", "Stop reply", priority=True),
        Binding("ctrl+r", "restart", "Load again", priority=True),
        Binding("ctrl+o", "focus('#model')", "Model", priority=True),
        Binding("ctrl+b", "focus('#budget')", "Budget", priority=True),
        Binding("ctrl+t", "focus('#prompt')", "Prompt", priority=True, show=False),
    ]
    CSS = """
    InspectScreen { background: $background; }
    #state { height: 1; padding: 0 1; background: $surface; text-wrap: nowrap; }
    #parts { height: 1fr; }
    #parts > VerticalScroll { width: 1fr; border: round $foreground 25%; border-title-color: $accent;
        padding: 0 1; scrollbar-size-vertical: 1; }
    #parts > VerticalScroll:focus { border: round $accent 80%; }
    #parts.-narrow { layout: vertical; overflow-y: auto; }
    #parts.-narrow > VerticalScroll { width: 1fr; height: auto; min-height: 4; }
    #asking { height: 3; }
    #asking Input { border: round $foreground 25%; background: $background; border-title-color: $accent; }
    #asking Input:focus { border: round $accent 80%; }
    #prompt { width: 3fr; } #model { width: 1fr; } #budget { width: 16; }
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model
        self.question: Question | None = None
        self.state = "◌ LOADING"
        self._note = ""
        self._child: ModelChild | None = None
        self._has_news = True

    def compose(self) -> Iterator[Widget]:
        """Lay out the three parts and what is asked."""
        yield Static(id="state")
        with Horizontal(id="parts"):
            for name in _PARTS:
                with VerticalScroll(id=name):
                    yield Static(id=f"{name}-text", markup=False)
        with Horizontal(id="asking"):
            yield Input(id="prompt", placeholder="A question; enter asks it")
            yield Input("auto", id="budget", placeholder="auto, 0, 64, -1")
            yield Input(self.model, id="model", placeholder="nano, or a directory")
        yield Footer()

    def on_mount(self) -> None:
        """Name the parts, load the model, begin to paint."""
        for name in _PARTS:
            self.query_one(f"#{name}").border_title = _TITLES[name]
        for name in ("prompt", "budget", "model"):
            self.query_one(f"#{name}", Input).border_title = name.upper()
        self.query_one("#prompt").focus()
        self.set_interval(_SECONDS_BETWEEN_PAINTS, self._paint)
        self._live()

    def on_resize(self) -> None:
        """Put the parts one below the other where there is little room."""
        self.query_one("#parts").set_class(self.size.width < _NARROW, "-narrow")
        self._has_news = True

    async def on_unmount(self) -> None:
        """Let the process end with the screen."""
        await self._end_child()

    @work(exclusive=True, group="model")
    async def _live(self) -> None:
        """Start the model's process and take what it tells, until it ends."""
        await self._end_child()
        self.state, self._note, self._has_news = "◌ LOADING", "", True
        child = self._child = ModelChild(command(self.model))
        try:
            await child.start()
        except OSError as error:
            self._ended(f"Wanted to start the model's process, but {error}.")
            return
        async for line in child.lines():
            self._take(line)
        words = await child.ended()
        if child is self._child:
            self._ended(words)

    def _take(self, line: Mapping[str, object]) -> None:
        self._has_news = True
        if line.get("kind") == "ready":
            self.state = "● READY"
            missing = [part for part in ("layer", "gate") if line.get(part) is False]
            self._note = f"without {' and '.join(missing)}" if missing else ""
        elif self.question is not None:
            self.question.take(line)

    def _ended(self, words: str) -> None:
        self.state, self._note, self._has_news = "✖ ENDED", words, True
        if self.question is not None and not self.question.is_over:
            self.question.is_over = self.question.is_stopped = True

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.close()

    def _paint(self) -> None:
        if not self._has_news:
            return
        self._has_news = False
        style = _STYLES[self.state[0]]
        line = text(f"{one_line(self.model, 40)}  ", BRIGHT) + text(self.state, style)
        self.query_one("#state", Static).update(line + text(f"  {literal(self._note)}", DIM))
        for name in _PARTS:
            frame = self.query_one(f"#{name}", VerticalScroll)
            width = max(frame.scrollable_content_region.width, 20)
            shown = self.query_one(f"#{name}-text", Static)
            if name == "reading":
                shown.update(reading_lines(self.question, width))
            else:
                shown.update(side_lines(self.question, name, width))

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask, or load another model."""
        event.stop()
        if event.input.id == "model":
            self.model = event.value.strip() or self.model
            self.question = None
            self._live()
            self.query_one("#prompt").focus()
            return
        await self._ask(self.query_one("#prompt", Input).value)

    async def _ask(self, prompt: str) -> None:
        budget = self.query_one("#budget", Input).value.strip() or "auto"
        if budget != "auto" and not budget.removeprefix("-").isdecimal():
            self._refuse(f"Wanted a budget of auto or THINK tokens (-1: no limit), got {budget!r}.")
            return
        if not prompt.strip() or self._child is None:
            return
        if self.question is not None and not self.question.is_over:
            self._refuse("A reply still runs; ctrl+x stops it.")
            return
        self.question, self._has_news = Question(prompt), True
        tokens = None if budget == "auto" else int(budget)
        if not await self._child.send({"prompt": prompt, "budget": tokens, "seed": 0}):
            self.question = None
            self._refuse("The model's process has ended; ctrl+r loads it again.")

    def _refuse(self, words: str) -> None:
        self.notify(words, severity="warning", markup=False)

    async def action_stop(self) -> None:
        """End the reply that runs."""
        if self._child is not None:
            await self._child.send({"stop": True})

    def action_restart(self) -> None:
        """End the process and load the model anew."""
        self.question = None
        self._live()

    def action_leave(self) -> None:
        """Go back; the model's process ends."""
        self.app.pop_screen()
