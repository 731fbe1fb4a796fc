"""Tokens to text as they come: whole characters only, no blank ends, cut where a stop text begins."""

import re
from dataclasses import dataclass, field

from metacog.model.base import Base
from metacog.records import Segment, Step

_BYTE = re.compile("<0x[0-9A-F]{2}>")
"""A token that stands for one byte where the vocabulary lacks a character."""
_INCOMPLETE = "�"


@dataclass
class Pieces:
    """One segment's text: all deltas joined are what `text` returns at the end.

    Args:
        base: Whose tokens come.
        stops: Texts that end it; they are not part of it.
        strip: Leave blanks at both ends out.
    """

    base: Base
    stops: tuple[str, ...] = ()
    strip: bool = False
    stopped: bool = False
    count: int = 0
    _ids: list[int] = field(default_factory=list)
    _sent: str = ""

    def push(self, token: int) -> str:
        """Take a token and return the text that is certain now."""
        self.count += 1
        self._ids.append(token)
        whole = self._whole(self._settled()).rstrip(_INCOMPLETE)
        if not self.stopped:
            held = max((_overlap(whole, stop) for stop in self.stops), default=0)
            whole = whole[: len(whole) - held]
        return self._new(whole.rstrip() if self.strip else whole)

    def end(self) -> str:
        """Return what was held back."""
        whole = self._whole(len(self._ids))
        return self._new(whole.rstrip() if self.strip else whole)

    @property
    def text(self) -> str:
        """What was returned so far."""
        return self._sent

    def _settled(self) -> int:
        """Return how many tokens later ones cannot change: a run of bytes is text or not as a whole."""
        settled = len(self._ids)
        while settled and _BYTE.fullmatch(self._name(self._ids[settled - 1])):
            settled -= 1
        return settled

    def _name(self, token: int) -> str:
        return str(self.base.tokenizer.convert_ids_to_tokens(token))

    def _whole(self, settled: int) -> str:
        whole = self.base.decode(self._ids[:settled], with_control=not self.strip)
        found = [at for at in (whole.find(stop) for stop in self.stops) if at >= 0]
        self.stopped = bool(found)
        whole = whole[: min(found)] if found else whole
        return whole.lstrip() if self.strip else whole

    def _new(self, whole: str) -> str:
        new = whole[len(self._sent) :]
        self._sent += new
        return new


@dataclass
class Speech:
    """One reply's two texts: thinking and answer, kept apart by the segment of each token."""

    base: Base
    stops: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.thinking = Pieces(self.base)
        self.answer = Pieces(self.base, self.stops, strip=True)
        self.tokens = 0

    def push(self, step: Step) -> tuple[str, str]:
        """Take a token and return what it adds to thinking and to the answer."""
        self.tokens += 1
        if step.segment is Segment.THINK:
            return self.thinking.push(step.token), ""
        if step.segment is Segment.ANSWER:
            return self.thinking.end(), self.answer.push(step.token)
        return self.thinking.end(), ""


def _overlap(text: str, stop: str) -> int:
    """Return how much of a stop text the text may have begun."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)
