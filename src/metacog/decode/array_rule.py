"""The budget's rule as array operations: what a step does to the numbers of many replies.

Each function of `ArrayRule` mirrors one of `BudgetController`; read the rule there. It keeps no
state of its own: the numbers come in as one array of `ROW`, and are changed in place.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metacog.decode.terms import ControllerSettings, check_landing
from metacog.records import CloseReason, Segment
from metacog.text.resolve import ResolvedTags

SEGMENTS = (Segment.THINK, Segment.CLOSE, Segment.ANSWER)
"""What the codes of segments stand for."""

THINK, CLOSE, ANSWER = range(3)
REASONS = tuple(CloseReason)
NATURAL = REASONS.index(CloseReason.NATURAL)
NONE = -1

Ints = NDArray[np.int64]
Codes = NDArray[np.int8]
Flags = NDArray[np.bool_]
RowArray = NDArray[Any]
"""An array of `ROW`."""

ROW = np.dtype(
    [
        ("occupied", np.bool_),
        ("done", np.bool_),
        ("finished", np.bool_),
        ("at_line_end", np.bool_),
        ("segment", np.int8),
        ("reason", np.int8),
        ("closed_by", np.int8),
        ("used", np.int64),
        ("limit", np.int64),
        ("floor", np.int64),
        ("opening", np.int64),
        ("wrap_start", np.int64),
        ("close_at", np.int64),
        ("matched_close", np.int64),
        ("matched_open", np.int64),
        ("emitted", np.int64),
        ("answered", np.int64),
        ("max_new", np.int64),
        ("max_answer", np.int64),
    ]
)


class ArrayRule:
    """The rule for one set of tags and settings."""

    def __init__(self, tags: ResolvedTags, settings: ControllerSettings) -> None:
        check_landing(tags, settings)
        landing = settings.landing
        strengths = (
            [landing.strength(left) for left in range(1, landing.window + 1)] if landing else []
        )
        self.strengths = np.array(strengths, dtype=np.float32)
        """What the closer's first id gains with 1, 2, ... tokens left before the cap."""
        self.opener, self.closer = (
            np.array(mark, dtype=np.int64) for mark in (tags.think_open, tags.think_close)
        )
        self.wrap_up = np.array(settings.wrap_up, dtype=np.int64)
        self.eos = np.array(sorted(tags.eos), dtype=np.int64)
        self.line_ends = np.zeros(max(tags.line_ends, default=-1) + 2, dtype=np.bool_)
        self.line_ends[list(tags.line_ends)] = True

    def forced(self, rows: RowArray, openings: NDArray[np.int64]) -> Ints:
        """Return the token that must come in each row, or -1."""
        runs, used = running(rows), rows["used"]
        forced = np.full(len(rows), NONE, dtype=np.int64)
        thinks, closing = (runs & (rows["segment"] == code) for code in (THINK, CLOSE))
        forced[closing] = self.closer[rows["close_at"][closing]]
        wraps = np.flatnonzero(thinks & (rows["wrap_start"] != NONE))
        forced[wraps] = self.wrap_up[used[wraps] - rows["wrap_start"][wraps]]
        opens = np.flatnonzero(thinks & (used < rows["opening"]))
        forced[opens] = openings[opens, used[opens]]
        return forced

    def suppressed(self, rows: RowArray, free: Flags) -> tuple[Ints, Ints]:
        """Return rows and ids of the tokens that may not come."""
        last, thinks = len(self.closer) - 1, rows["segment"] == THINK
        too_early = thinks & (rows["used"] - last < rows["floor"])
        opens = np.flatnonzero(free & (rows["matched_open"] == len(self.opener) - 1))
        shuts = np.flatnonzero(free & (rows["matched_close"] == last) & (too_early | ~thinks))
        ends = np.flatnonzero(free & thinks & (rows["used"] < rows["floor"]))
        opener, closer = np.full_like(opens, self.opener[-1]), np.full_like(shuts, self.closer[-1])
        return (
            np.concatenate([opens, shuts, np.repeat(ends, len(self.eos))]),
            np.concatenate([opener, closer, np.tile(self.eos, len(ends))]),
        )

    def biases(self, rows: RowArray, free: Flags) -> tuple[Ints, NDArray[np.float32]]:
        """Return the rows in which the closer's first id becomes likelier, and by how much."""
        left = rows["limit"] - rows["used"]
        may_begin = (rows["matched_close"] == 0) & (rows["used"] >= rows["floor"])
        lands = free & (rows["segment"] == THINK) & (left <= len(self.strengths))
        chosen = np.flatnonzero(lands & may_begin & rows["at_line_end"])
        return chosen, self.strengths[left[chosen] - 1]

    def observe(self, rows: RowArray, tokens: Ints) -> Codes:
        """Record each row's token and return the code of the segment it was emitted in."""
        runs, segments = running(rows), rows["segment"].copy()
        thought, closing, answer = (runs & (segments == code) for code in (THINK, CLOSE, ANSWER))
        self._observe_closer(rows, closing)
        segments[self._observe_thought(rows, thought, tokens)] = CLOSE
        self._observe_answer(rows, answer, tokens)
        rows["emitted"] += runs
        opened = _advance(rows["matched_open"], tokens, self.opener) % len(self.opener)
        rows["matched_open"] = np.where(runs, opened, rows["matched_open"])
        rows["at_line_end"] = self.line_ends[np.minimum(tokens, len(self.line_ends) - 1)]
        rows["done"] |= runs & (rows["segment"] != THINK) & (rows["emitted"] >= rows["max_new"])
        return segments

    def follow_limit(self, rows: RowArray, openings: NDArray[np.int64]) -> None:
        """Begin what each limit asks for: the closer at it, the wrap-up text before it."""
        thinks = running(rows) & (rows["segment"] == THINK)
        self.begin_close(rows, thinks & (rows["used"] >= rows["limit"]), rows["reason"])
        if len(self.wrap_up):
            starts = (rows["used"] > 0) & (rows["used"] == rows["limit"] - len(self.wrap_up))
            between_marks = (rows["matched_close"] == 0) & (rows["matched_open"] == 0)
            wraps = self.thinks_freely(rows, openings) & starts & between_marks
            rows["wrap_start"][wraps] = rows["used"][wraps]

    def thinks_freely(self, rows: RowArray, openings: NDArray[np.int64]) -> Flags:
        """Return the rows that are in THINK with nothing forced."""
        free = running(rows) & (self.forced(rows, openings) == NONE)
        return np.asarray(free & (rows["segment"] == THINK))

    def begin_close(self, rows: RowArray, chosen: Flags, reasons: Codes) -> None:
        """Force the closer in the chosen rows: the rest of it where the model has begun it."""
        begun = np.where(rows["wrap_start"] == NONE, rows["matched_close"], 0)
        close_at = np.where(rows["used"] - begun >= rows["floor"], begun, 0)
        rows["close_at"] = np.where(chosen, close_at, rows["close_at"])
        rows["used"] -= np.where(chosen, close_at, 0)
        rows["closed_by"] = np.where(chosen, reasons, rows["closed_by"])
        rows["segment"][chosen] = CLOSE

    def is_eos(self, tokens: Ints) -> Flags:
        """Return where a token ends a reply."""
        return np.asarray((tokens[:, None] == self.eos).any(axis=1))

    def _observe_closer(self, rows: RowArray, closing: Flags) -> None:
        rows["close_at"] += closing
        closed = closing & (rows["close_at"] == len(self.closer))
        rows["segment"][closed], rows["matched_close"][closed] = ANSWER, 0

    def _observe_thought(self, rows: RowArray, thought: Flags, tokens: Ints) -> Flags:
        """Record tokens of THINK and return where one completed the closer."""
        length = len(self.closer)
        matched = _advance(rows["matched_close"], tokens, self.closer)
        closed: Flags = thought & (matched == length)
        rows["matched_close"] = np.where(thought, matched % length, rows["matched_close"])
        rows["used"] += thought - length * closed
        rows["segment"][closed], rows["closed_by"][closed] = ANSWER, NATURAL
        return closed

    def _observe_answer(self, rows: RowArray, answer: Flags, tokens: Ints) -> None:
        matched = _advance(rows["matched_close"], tokens, self.closer) % len(self.closer)
        rows["matched_close"] = np.where(answer, matched, rows["matched_close"])
        rows["answered"] += answer
        rows["finished"] |= answer & self.is_eos(tokens)
        rows["done"] |= rows["finished"] | (answer & (rows["answered"] >= rows["max_answer"]))


def running(rows: RowArray) -> Flags:
    """Return the rows that hold a reply which has not ended."""
    return np.asarray(rows["occupied"] & ~rows["done"])


def _advance(matched: Ints, tokens: Ints, mark: Ints) -> Ints:
    """Return how many ids of a mark each stream ends with, after one more token."""
    return np.where(tokens == mark[matched], matched + 1, (tokens == mark[0]).astype(np.int64))
