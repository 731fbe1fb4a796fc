"""The budget's rule for many replies at once: one array of numbers, a few array operations a step.

It equals `BudgetController` token for token. Rows are slots of a batch, admitted, moved and released
as replies come and go; every array speaks of the slots up to the last one in use.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metacog.decode.array_rule import (
    NATURAL,
    NONE,
    REASONS,
    ROW,
    SEGMENTS,
    ArrayRule,
    Codes,
    Flags,
    Ints,
    RowArray,
    running,
)
from metacog.decode.terms import (
    ControllerSettings,
    Terms,
    close_reason,
    lowered_limit,
    settle,
)
from metacog.errors import BudgetExceeded
from metacog.records import (
    BudgetReport,
    BudgetSource,
    CloseReason,
    Rereading,
    Revision,
    RevisionKind,
    Segment,
)
from metacog.text.resolve import ResolvedTags

__all__ = ["SEGMENTS", "BatchController", "BatchDecision"]


@dataclass(frozen=True)
class BatchDecision:
    """What holds for the next token of each row; pairs of rows and ids name single logits."""

    forced: Ints
    """The token that must come, or -1 where the model chooses."""
    suppressed_rows: Ints
    suppressed_ids: Ints
    """Tokens that may not come in these rows."""
    bias_rows: Ints
    bias_ids: Ints
    bias_values: NDArray[np.float32]
    """What is added to the logits of these tokens."""


@dataclass
class _Ledger:
    """What is known of one row beside its numbers."""

    terms: Terms
    revisions: list[Revision]


class BatchController:
    """Follows the replies of a batch whose THINK has been opened, and says what must come next."""

    def __init__(
        self, rows: int, tags: ResolvedTags, settings: ControllerSettings | None = None
    ) -> None:
        self.tags, self.settings = tags, settings or ControllerSettings()
        self.num_rows = 0
        """Slots up to the last one in use."""
        self._rule = ArrayRule(tags, self.settings)
        self._rows = np.zeros(rows, dtype=ROW)
        self._openings = np.zeros((rows, 0), dtype=np.int64)
        self._ledgers: list[_Ledger | None] = [None] * rows

    @property
    def used(self) -> Ints:
        """THINK tokens so far, a partial closer among them while THINK is open."""
        return np.array(self._live["used"])

    @property
    def done(self) -> Flags:
        """Rows whose reply has ended."""
        return np.array(self._live["done"])

    @property
    def finished(self) -> Flags:
        """Rows whose reply ended by itself."""
        return np.array(self._live["finished"])

    @property
    def at_line_end(self) -> Flags:
        """Rows whose last token ended a line."""
        return np.array(self._live["at_line_end"])

    def segments(self) -> Codes:
        """Return the segment of each row's next token, as an index into `SEGMENTS`."""
        return np.array(self._live["segment"])

    def thinks_freely(self) -> Flags:
        """Return the rows that are in THINK with nothing forced: where a revision can act."""
        return self._rule.thinks_freely(self._live, self._openings)

    def admit(
        self,
        row: int,
        *,
        budget: int,
        max_new_tokens: int,
        max_answer_tokens: int,
        opening: tuple[int, ...] = (),
    ) -> None:
        """Give a free slot to a reply whose THINK has been opened."""
        if self._rows["occupied"][row]:
            raise ValueError(f"row {row} is in use; release it first.")
        terms = settle(
            self.tags,
            self.settings,
            budget=budget,
            max_new_tokens=max_new_tokens,
            max_answer_tokens=max_answer_tokens,
            opening=opening,
        )
        self._ledgers[row] = _Ledger(terms, [])
        self._write(row, terms)
        self._count_rows()
        self._rule.follow_limit(self._live, self._openings)

    def release(self, row: int) -> None:
        """Free a slot."""
        self._rows[row] = np.zeros(1, dtype=ROW)[0]
        self._ledgers[row] = None
        self._count_rows()

    def move(self, source: int, target: int) -> None:
        """Take a reply from one slot to another; what was there is forgotten."""
        if source == target:
            return
        self._rows[target], self._openings[target] = self._rows[source], self._openings[source]
        self._ledgers[target] = self._ledgers[source]
        self.release(source)

    def decide(self) -> BatchDecision:
        """Return what holds for the next token of each row; asking again changes nothing."""
        forced = self._rule.forced(self._live, self._openings)
        free = running(self._live) & (forced == NONE)
        suppressed_rows, suppressed_ids = self._rule.suppressed(self._live, free)
        bias_rows, bias_values = self._rule.biases(self._live, free)
        return BatchDecision(
            forced=forced,
            suppressed_rows=suppressed_rows,
            suppressed_ids=suppressed_ids,
            bias_rows=bias_rows,
            bias_ids=np.full_like(bias_rows, self.tags.think_close[0]),
            bias_values=bias_values,
        )

    def resolve(self, tokens: Ints) -> tuple[Ints, Flags]:
        """Return the tokens to emit for those that came, and where they are others.

        An end of reply inside THINK becomes the closer; what is returned must be observed next.
        """
        ends = self._rule.is_eos(tokens)
        if ends.any():
            ends &= self.thinks_freely()
        self._rule.begin_close(self._live, ends, np.full(len(ends), NATURAL, dtype=np.int8))
        emitted = tokens.copy()
        emitted[ends] = self._rule.closer[self._live["close_at"][ends]]
        return emitted, ends

    def observe(self, tokens: Ints) -> Codes:
        """Record each row's token and return the segment it was emitted in.

        Segments are indices into `SEGMENTS`; the token of a row that has ended is not looked at.
        """
        if self.settings.debug:
            self._check(tokens)
        segments = self._rule.observe(self._live, tokens)
        if self.settings.debug:
            self._check_caps()
        self._rule.follow_limit(self._live, self._openings)
        return segments

    def revise(self, revisions: Mapping[int, tuple[RevisionKind, Rereading]]) -> set[int]:
        """Lower rows' budgets to used + allowed, or close their THINK; return the rows that changed.

        Nothing changes where the budget would go up, below `min_think`, or while tokens are forced.
        """
        free = self.thinks_freely()
        changed = {row for row, said in revisions.items() if free[row] and self._lower(row, *said)}
        if changed:
            self._rule.follow_limit(self._live, self._openings)
        return changed

    def _lower(self, row: int, kind: RevisionKind, rereading: Rereading) -> bool:
        used, floor, limit = (int(self._rows[name][row]) for name in ("used", "floor", "limit"))
        after = lowered_limit(kind, rereading, thought=used, floor=floor, limit=limit)
        if after is None:
            return False
        uncapped = REASONS[self._rows["reason"][row]] is CloseReason.MAX_TOKENS
        before = None if uncapped else limit
        self._ledger(row).revisions.append(Revision(kind, before, after, rereading))
        self._rows["limit"][row] = after
        self._rows["reason"][row] = REASONS.index(close_reason(kind))
        return True

    def report(
        self, row: int, *, requested: int | None, predicted: int | None, source: BudgetSource
    ) -> BudgetReport:
        """Return what was asked of a row's thinking, and what it did."""
        ledger, closed_by = self._ledger(row), int(self._rows["closed_by"][row])
        return BudgetReport(
            requested=requested,
            predicted=predicted,
            enforced=ledger.terms.enforced,
            used=int(self._rows["used"][row]),
            close_reason=None if closed_by == NONE else REASONS[closed_by],
            source=source,
            revisions=tuple(ledger.revisions),
        )

    @property
    def _live(self) -> RowArray:
        return self._rows[: self.num_rows]

    def _ledger(self, row: int) -> _Ledger:
        ledger = self._ledgers[row]
        if ledger is None:
            raise ValueError(f"row {row} is free; admit a reply first.")
        return ledger

    def _count_rows(self) -> None:
        occupied = np.flatnonzero(self._rows["occupied"])
        self.num_rows = int(occupied[-1]) + 1 if len(occupied) else 0

    def _write(self, row: int, terms: Terms) -> None:
        missing = len(terms.opening) - self._openings.shape[1]
        if missing > 0:
            self._openings = np.pad(self._openings, ((0, 0), (0, missing)))
        self._openings[row, : len(terms.opening)] = terms.opening
        start = np.zeros(1, dtype=ROW)
        start["occupied"], start["closed_by"], start["wrap_start"] = True, NONE, NONE
        start["limit"], start["floor"] = terms.limit, terms.floor
        start["opening"], start["reason"] = len(terms.opening), REASONS.index(terms.reason)
        start["max_new"], start["max_answer"] = terms.max_new_tokens, terms.max_answer_tokens
        self._rows[row] = start[0]

    def _check(self, tokens: Ints) -> None:
        decision, live = self.decide(), self._live
        stray = (decision.forced != NONE) & (decision.forced != tokens)
        late = np.flatnonzero(stray & (self.segments() == SEGMENTS.index(Segment.CLOSE)))
        if len(late):
            row = int(late[0])
            raise BudgetExceeded(
                f"{tokens[row]} came in row {row} where {decision.forced[row]} closes THINK after "
                f"{live['used'][row]} tokens, with a limit of {live['limit'][row]}."
            )
        assert not stray.any(), f"rows {np.flatnonzero(stray)} took another token than was forced."
        broken = tokens[decision.suppressed_rows] == decision.suppressed_ids
        assert not broken.any(), f"rows {decision.suppressed_rows[broken]} took a suppressed token."

    def _check_caps(self) -> None:
        """Look at the counts alone, not at what was forced: while THINK is open all is THINK."""
        live = self._live
        counted = np.maximum(live["used"], live["emitted"])
        thinks = running(live) & (self.segments() == SEGMENTS.index(Segment.THINK))
        over = np.flatnonzero(thinks & (counted > live["limit"]))
        if len(over):
            row = int(over[0])
            raise BudgetExceeded(
                f"THINK is open in row {row} after {counted[row]} tokens, with a limit of "
                f"{live['limit'][row]}."
            )
