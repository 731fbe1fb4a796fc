"""The rule that keeps one reply's thinking inside its budget, token by token.

    THINK (at most `limit` tokens) -> closer, once -> ANSWER

Every decision says what is forced, what is suppressed and what is biased. A closer may be several
ids: a partial match counts as THINK until it is complete, and at the limit only the rest of it is
forced. `BatchController` applies the same rule to many replies at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from metacog.decode.terms import (
    ControllerSettings,
    Landing,
    advance,
    check_landing,
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

__all__ = ["BudgetController", "ControllerSettings", "Decision", "Landing"]


@dataclass(frozen=True)
class Decision:
    """What holds for the next token."""

    forced: int | None = None
    """The token that must come, or None where the model chooses."""
    suppressed: frozenset[int] = frozenset()
    """Tokens that may not come."""
    biases: Mapping[int, float] = field(default_factory=dict)
    """What is added to the logits of tokens."""


class BudgetController:
    """Follows one reply whose THINK has been opened, and says what must come next."""

    def __init__(
        self,
        tags: ResolvedTags,
        settings: ControllerSettings | None = None,
        *,
        budget: int,
        max_new_tokens: int,
        max_answer_tokens: int,
        opening: tuple[int, ...] = (),
    ) -> None:
        self.tags, self.settings = tags, settings or ControllerSettings()
        check_landing(tags, self.settings)
        self.terms = settle(
            tags,
            self.settings,
            budget=budget,
            max_new_tokens=max_new_tokens,
            max_answer_tokens=max_answer_tokens,
            opening=opening,
        )
        self.segment = Segment.THINK
        """Of the next token."""
        self.used = 0
        """THINK tokens so far, a partial closer among them while THINK is open."""
        self.done, self.finished = False, False
        self.revisions: list[Revision] = []
        self._limit, self._reason = self.terms.limit, self.terms.reason
        self._closed_by: CloseReason | None = None
        self._close_at = self._matched_close = self._matched_open = 0
        self._wrap_start: int | None = None
        self._emitted = self._answered = 0
        self._at_line_end = False
        self._follow_limit()

    def decide(self) -> Decision:
        """Return what holds for the next token; asking again changes nothing."""
        if self.done:
            return Decision()
        forced = self._forced()
        if forced is not None:
            return Decision(forced=forced)
        return Decision(suppressed=self._suppressed(), biases=self._biases())

    def resolve(self, token: int) -> tuple[int, bool]:
        """Return the token to emit for one that came, and whether it is another.

        An end of reply inside THINK becomes the closer; what is returned must be observed next.
        """
        if self._thinks_freely() and token in self.tags.eos:
            self._begin_close(CloseReason.NATURAL)
            return self.tags.think_close[self._close_at], True
        return token, False

    def observe(self, token: int) -> Segment:
        """Record the token that was emitted and return the segment it was emitted in."""
        if self.settings.debug:
            self._check(token)
        segment = self.segment
        match segment:
            case Segment.CLOSE:
                self._observe_closer()
            case Segment.THINK:
                segment = self._observe_thought(token)
            case _:
                self._observe_answer(token)
        self._emitted += 1
        opener = self.tags.think_open
        self._matched_open = advance(self._matched_open, token, opener) % len(opener)
        self._at_line_end = token in self.tags.line_ends
        if self.segment is Segment.THINK:
            self._follow_limit()
        elif self._emitted >= self.terms.max_new_tokens:
            self.done = True
        return segment

    def revise(self, kind: RevisionKind, rereading: Rereading) -> bool:
        """Lower the budget to used + allowed, or close THINK; return whether that changed anything.

        Nothing changes where the budget would go up, below `min_think`, or while tokens are forced.
        """
        if not self._thinks_freely():
            return False
        floor, before = self.terms.floor, self._limit
        after = lowered_limit(kind, rereading, thought=self.used, floor=floor, limit=before)
        if after is None:
            return False
        uncapped = self._reason is CloseReason.MAX_TOKENS
        self.revisions.append(Revision(kind, None if uncapped else before, after, rereading))
        self._limit, self._reason = after, close_reason(kind)
        self._follow_limit()
        return True

    def report(
        self, *, requested: int | None, predicted: int | None, source: BudgetSource
    ) -> BudgetReport:
        """Return what was asked of this reply's thinking, and what it did."""
        return BudgetReport(
            requested=requested,
            predicted=predicted,
            enforced=self.terms.enforced,
            used=self.used,
            close_reason=self._closed_by,
            source=source,
            revisions=tuple(self.revisions),
        )

    def _forced(self) -> int | None:
        if self.segment is Segment.CLOSE:
            return self.tags.think_close[self._close_at]
        if self.segment is not Segment.THINK:
            return None
        if self.used < len(self.terms.opening):
            return self.terms.opening[self.used]
        if self._wrap_start is not None:
            return self.settings.wrap_up[self.used - self._wrap_start]
        return None

    def _thinks_freely(self) -> bool:
        return self.segment is Segment.THINK and self._forced() is None

    def _suppressed(self) -> frozenset[int]:
        opener, closer = self.tags.think_open, self.tags.think_close
        suppressed: set[int] = set()
        if self._matched_open == len(opener) - 1:
            suppressed.add(opener[-1])
        thinking, floor = self.segment is Segment.THINK, self.terms.floor
        too_early = thinking and self.used - (len(closer) - 1) < floor
        if self._matched_close == len(closer) - 1 and (too_early or not thinking):
            suppressed.add(closer[-1])
        if thinking and self.used < floor:
            suppressed |= self.tags.eos
        return frozenset(suppressed)

    def _biases(self) -> dict[int, float]:
        landing, left = self.settings.landing, self._limit - self.used
        if landing is None or self.segment is not Segment.THINK or left > landing.window:
            return {}
        may_begin = self._matched_close == 0 and self.used >= self.terms.floor
        if not (may_begin and self._at_line_end):
            return {}
        return {self.tags.think_close[0]: landing.strength(left)}

    def _observe_closer(self) -> None:
        self._close_at += 1
        if self._close_at == len(self.tags.think_close):
            self._matched_close, self.segment = 0, Segment.ANSWER

    def _observe_thought(self, token: int) -> Segment:
        closer = self.tags.think_close
        self._matched_close = advance(self._matched_close, token, closer)
        self.used += 1
        if self._matched_close < len(closer):
            return Segment.THINK
        self.used -= len(closer)
        self._matched_close, self.segment = 0, Segment.ANSWER
        self._closed_by = CloseReason.NATURAL
        return Segment.CLOSE

    def _observe_answer(self, token: int) -> None:
        closer = self.tags.think_close
        self._matched_close = advance(self._matched_close, token, closer) % len(closer)
        self._answered += 1
        self.finished = token in self.tags.eos
        self.done = self.finished or self._answered >= self.terms.max_answer_tokens

    def _follow_limit(self) -> None:
        """Begin what the limit asks for: the closer at it, the wrap-up text before it."""
        if self.used >= self._limit:
            self._begin_close(self._reason)
        elif self._wraps_up_here():
            self._wrap_start = self.used

    def _wraps_up_here(self) -> bool:
        length = len(self.settings.wrap_up)
        between_marks = self._matched_close == 0 and self._matched_open == 0
        starts = self.used > 0 and self.used == self._limit - length
        return length > 0 and starts and between_marks and self._thinks_freely()

    def _begin_close(self, reason: CloseReason) -> None:
        """Force the closer from here: the rest of it where the model has begun it.

        A wrap-up text that ends as the closer begins is text; behind it the closer comes whole.
        """
        begun = self._matched_close if self._wrap_start is None else 0
        self._close_at = begun if self.used - begun >= self.terms.floor else 0
        self.used -= self._close_at
        self.segment, self._closed_by = Segment.CLOSE, reason

    def _check(self, token: int) -> None:
        decision = self.decide()
        assert not self.done, "a reply that has ended was given another token."
        assert token not in decision.suppressed, f"the suppressed token {token} came."
        if decision.forced not in (None, token):
            if self.segment is Segment.CLOSE:
                raise BudgetExceeded(
                    f"{token} came where {decision.forced} closes THINK after {self.used} tokens, "
                    f"with a limit of {self._limit}."
                )
            raise AssertionError(f"{token} came where {decision.forced} was forced.")
