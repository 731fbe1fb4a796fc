"""What is known of one question and its replies, from the lines of a model's process."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_MOST_TEXT = 20_000
"""Characters of one text that are kept; the earliest go first."""


@dataclass
class Side:
    """One reply: with the gate, or without it."""

    thinking: str = ""
    answer: str = ""
    think_tokens: int = 0
    forced: int = 0
    """Tokens that the controller wrote."""
    segment: str | None = None
    """Where the newest token stands."""
    reply: Mapping[str, object] | None = None
    """What became of it; None while it runs."""

    def take(self, line: Mapping[str, object]) -> None:
        """Add a token, or the end."""
        self.thinking = (self.thinking + str(line.get("think", "")))[-_MOST_TEXT:]
        self.answer = (self.answer + str(line.get("answer", "")))[-_MOST_TEXT:]
        if line.get("kind") == "reply":
            self.reply = line
            return
        self.segment = str(line.get("segment"))
        self.think_tokens += self.segment == "think"
        self.forced += line.get("sampled") is False


@dataclass
class Question:
    """A prompt that was asked, as far as its answer has come."""

    prompt: str
    reading: Mapping[str, object] | None = None
    """None until it is read, and where the model has no layer."""
    is_read: bool = False
    cap: int | None = None
    """THINK tokens that it may take; None where only the reply's limit binds."""
    plan: str | None = None
    sides: dict[str, Side] = field(default_factory=dict)
    """By `on` and `off`."""
    error: str | None = None
    is_over: bool = False
    is_stopped: bool = False

    def take(self, line: Mapping[str, object]) -> None:
        """Add what the process tells of it."""
        match line.get("kind"):
            case "reading":
                reading, cap, plan = line.get("reading"), line.get("cap"), line.get("plan")
                self.is_read = True
                self.reading = reading if isinstance(reading, Mapping) else None
                self.cap = cap if isinstance(cap, int) else None
                self.plan = plan if isinstance(plan, str) else None
            case "token" | "reply":
                self.sides.setdefault(str(line.get("side", "on")), Side()).take(line)
            case "error":
                self.error = str(line.get("message", ""))
            case "done":
                self.is_over, self.is_stopped = True, line.get("stopped") is True
