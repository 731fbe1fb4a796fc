"""Tokens to text as they come: whole characters only, no blank ends, cut where a stop text begins."""

import re
from dataclasses import dataclass, field

from metacog.model.base import Base
from metacog.records import Segment, Step

_BYTE = re.compile("<0x[0-9A-F]{2}>")
"""A token that stands for one byte where the vocabulary lacks a character."""
_INCOMPLETE = "�"
_WINDOW, _CONTEXT = 48, 8
"""Tokens that are decoded again with each new one, and how many of them were settled before."""


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
    """Those that are decoded again; what came before is in `_before`."""
    _known: int = 0
    """How many of them are in `_before` already: only what they are decoded with."""
    _before: str = ""
    _sent: str = ""

    def push(self, token: int) -> str:
        """Take a token and return the text that is certain now."""
        self.count += 1
        self._ids.append(token)
        self._shorten()
        return self._certain(self._settled())

    def add(self, text: str) -> str:
        """Take text in place of tokens and return the text that is certain now."""
        self._before += text
        return self._certain(0)

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

    def _decoded(self, end: int) -> str:
        known = self.base.decode(self._ids[: self._known], with_control=not self.strip)
        return self.base.decode(self._ids[:end], with_control=not self.strip)[len(known) :]

    def _shorten(self) -> None:
        """Keep only as many tokens as later ones need around them: decoding all again is quadratic."""
        settled = self._settled()
        if len(self._ids) < _WINDOW or settled < len(self._ids):
            return
        text = self._decoded(settled)
        if not text.endswith(_INCOMPLETE):
            self._before += text
            self._ids = self._ids[-_CONTEXT:]
            self._known = len(self._ids)

    def _certain(self, settled: int) -> str:
        """Return what is new and will not change."""
        whole = self._whole(settled).rstrip(_INCOMPLETE)
        if not self.stopped:
            held = max((_overlap(whole, stop) for stop in self.stops), default=0)
            whole = whole[: len(whole) - held]
        return self._new(whole.rstrip() if self.strip else whole)

    def _name(self, token: int) -> str:
        return str(self.base.tokenizer.convert_ids_to_tokens(token))

    def _whole(self, settled: int) -> str:
        whole = self._before + self._decoded(settled)
        if self.strip:
            whole = whole.lstrip()  # before a stop text is looked for: a line's end may be one
        found = [at for at in (whole.find(stop) for stop in self.stops) if at >= 0]
        self.stopped = bool(found)
        return whole[: min(found)] if found else whole

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
        closer = self.base.tags.think_close
        # The first ids of a closer of several count as THINK until it is whole: they are held back.
        marks = (self.base.decode(closer, with_control=True),) if len(closer) > 1 else ()
        self.thinking = Pieces(self.base, marks)
        self.answer = Pieces(self.base, self.stops, strip=True)
        self.tokens = 0

    def push(self, step: Step) -> tuple[str, str]:
        """Take a token and return what it adds to thinking and to the answer."""
        self.tokens += 1
        if step.segment is Segment.THINK:
            return self.thinking.push(step.token), ""
        if step.segment is Segment.CLOSE:
            return self._closed(step.token), ""
        return self.thinking.end(), self.answer.push(step.token)

    def _closed(self, token: int) -> str:
        """Complete a closer of several ids, so that it is cut off as a whole."""
        if self.thinking.stops:
            self.thinking.push(token)
        return self.thinking.end()

    def end(self) -> tuple[str, str]:
        """Return what was held back of both."""
        return self.thinking.end(), self.answer.end()


def _overlap(text: str, stop: str) -> int:
    """Return how much of a stop text the text may have begun."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)
