"""The conversation on the screen: what is read before thinking, the bar, and the answer."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from metacog.cli.generate import parse_budget
from metacog.cli.talk import Piece, Talk
from metacog.errors import InputError, RunError

HELP = (
    "/budget auto|N   thinking tokens, 0 none, -1 no limit\n"
    "/think           show what the last reply thought\n"
    "/new             begin anew\n"
    "/quit            leave"
)
_BAR = 32


@dataclass
class Shown:
    """One reply as far as it has come."""

    thinking: str = ""
    answer: str = ""
    told: dict[str, Any] | None = None
    used: int = 0
    ended: bool = False

    def take(self, piece: Piece) -> None:
        """Grow by a piece."""
        self.thinking += piece.thinking
        self.answer += piece.answer
        self.told = piece.told or self.told
        self.ended = piece.ended
        if piece.used is not None:
            self.used = piece.used

    def __rich__(self) -> RenderableType:
        parts = [self._reading(), self._spent()] if self.told is not None else []
        line = self.thinking.rstrip("\n").rpartition("\n")[2]
        if line and not self.ended:
            parts.append(Text(f"  {line}", style="dim", overflow="ellipsis", no_wrap=True))
        return Group(*parts, Text(self.answer, style="bold"))

    def _reading(self) -> Text:
        assert self.told is not None
        plan, sure = self.told["plan"], self.told["confidence"]
        said = f"plan {plan or '--'}   confidence {'--' if sure is None else f'{sure:.0%}'}"
        reason = self.told.get("close_reason")
        return Text(said + (f"   closed by {reason}" if reason else ""), style="cyan")

    def _spent(self) -> Text:
        """Return the bar."""
        assert self.told is not None
        cap = self.told["budget"]["enforced"]
        used = self.told["budget"]["used"] if self.ended else self.used
        if cap is None:
            return Text(f"thought {used} tokens, no limit but the reply's", style="dim")
        filled = _BAR if not cap else round(_BAR * min(1.0, used / cap))
        bar = "█" * filled + "·" * (_BAR - filled)
        return Text(f"[{bar}] thought {used} of {cap}", style="yellow" if used >= cap else "blue")


@dataclass
class Room:
    """Reads lines from the terminal and answers them."""

    talk: Talk
    budget: int | None
    seed: int
    messages: list[dict[str, str]] = field(default_factory=list)
    last: Shown = field(default_factory=Shown)

    def __post_init__(self) -> None:
        self.console = Console(highlight=False)

    def run(self) -> None:
        """Go on until the input ends or somebody leaves."""
        self.console.print(Text("/help says what else there is.", style="dim"))
        while True:
            try:
                line = self.console.input("[bold green]> [/]").strip()
            except EOFError:
                return
            if line == "/quit":
                return
            if line.startswith("/"):
                self.console.print(Text(self._command(line), style="dim"))
            elif line:
                self._ask(line)

    def _command(self, line: str) -> str:
        name, _, rest = line.partition(" ")
        match name:
            case "/budget":
                try:
                    self.budget = parse_budget(rest.strip())
                except InputError as error:
                    return str(error)
                return f"budget {rest.strip()}"
            case "/think":
                return self.last.thinking or "nothing was thought"
            case "/new":
                self.messages.clear()
                return "a new conversation"
            case _:
                return HELP

    def _ask(self, line: str) -> None:
        self.last = Shown()
        self.messages.append({"role": "user", "content": line})
        try:
            with Live(self.last, console=self.console, refresh_per_second=12) as live:
                for piece in self.talk.reply(self.messages, self.budget, self.seed):
                    self.last.take(piece)
                    live.update(self.last)
        except (InputError, RunError) as error:
            self.messages.pop()
            self.console.print(Text(str(error), style="red"))
            return
        except KeyboardInterrupt:
            self.console.print(Text("stopped", style="dim"))
        if self.last.answer:
            self.messages.append({"role": "assistant", "content": self.last.answer})
        else:
            self.messages.pop()
