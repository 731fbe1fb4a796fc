"""What binds one reply's thinking, settled before its first token."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from metacog.errors import InputError
from metacog.records import CloseReason, Rereading, RevisionKind, Segment
from metacog.text.resolve import ResolvedTags

NO_LIMIT = -1
"""The budget that leaves only the reply's own limit."""


@dataclass(frozen=True)
class Landing:
    """How THINK is led to its end inside the cap."""

    window: int
    """Last tokens before the cap in which the closer becomes likelier at line ends."""
    bias: float
    """What is added to the logit of the closer's first id at the last token of the window."""
    text_ids: tuple[int, ...] = ()
    """Wrap-up text that is forced so that it ends at the cap."""

    def __post_init__(self) -> None:
        if self.window < 1 or self.bias < 0:
            raise ValueError(f"a landing needs window >= 1 and bias >= 0, got {self}.")

    def strength(self, left: int) -> float:
        """Return what is added with `left` tokens before the cap, within the window."""
        return self.bias * (self.window + 1 - left) / self.window


@dataclass(frozen=True)
class ControllerSettings:
    """What holds for every reply of a controller."""

    min_think: int = 1
    """Fewest THINK tokens, unless the budget is smaller."""
    answer_reserve: int = 64
    """Tokens of the reply's limit that are kept free for the answer, behind the closer."""
    landing: Landing | None = None
    debug: bool = False
    """Assert with every token that no cap is exceeded and every decision was kept."""

    def __post_init__(self) -> None:
        if self.min_think < 0 or self.answer_reserve < 1:
            raise ValueError(f"wanted min_think >= 0 and answer_reserve >= 1, got {self}.")

    @property
    def wrap_up(self) -> tuple[int, ...]:
        """Ids of the wrap-up text, none without a landing."""
        return self.landing.text_ids if self.landing is not None else ()


@dataclass(frozen=True)
class Terms:
    """The numbers that one reply starts with."""

    limit: int
    """Most THINK tokens."""
    floor: int
    """Fewest THINK tokens."""
    reason: CloseReason
    """What THINK closes with if it reaches the limit."""
    enforced: int | None
    """The limit, or None where only the reply's own binds."""
    max_new_tokens: int
    max_answer_tokens: int
    opening: tuple[int, ...]
    """Forced first; empty where it did not fit."""


def think_room(tags: ResolvedTags, *, max_new_tokens: int, answer_reserve: int) -> int:
    """Return the most THINK tokens that a reply's own limit leaves beside closer and answer."""
    return max(0, max_new_tokens - len(tags.think_close) - answer_reserve)


def settle(
    tags: ResolvedTags,
    settings: ControllerSettings,
    *,
    budget: int,
    max_new_tokens: int,
    max_answer_tokens: int,
    opening: tuple[int, ...] = (),
) -> Terms:
    """Return the terms of a reply: limit = min(budget, max_new_tokens - closer - answer_reserve).

    Raises:
        InputError: If the budget is below -1, a limit leaves no room for an answer, or the opening
            holds a tag or begins the closer.
    """
    if budget < NO_LIMIT:
        raise InputError(
            f"Wanted a budget of 0 or more thinking tokens, or -1 for no limit, got {budget}. "
            "Name one of these."
        )
    least = len(tags.think_close) + 1
    if max_new_tokens < least or max_answer_tokens < 1:
        raise InputError(
            f"Wanted max_new_tokens of at least {least} (the closer and an answer) and "
            f"max_answer_tokens of at least 1, got {max_new_tokens} and {max_answer_tokens}. "
            "Raise them."
        )
    _check_forced(tags, "opening", opening)
    if _ends_as_begins(opening, tags.think_close):
        raise InputError(
            f"Wanted a forced opening that does not end as the closer of THINK begins, got {opening} "
            f"with the closer {tags.think_close}. End it with other text."
        )
    room = think_room(tags, max_new_tokens=max_new_tokens, answer_reserve=settings.answer_reserve)
    limit, reason = room, CloseReason.MAX_TOKENS
    if budget != NO_LIMIT and budget <= room:
        limit, reason = budget, CloseReason.BUDGET if budget else CloseReason.DISABLED
    return Terms(
        limit=limit,
        floor=min(settings.min_think, limit),
        reason=reason,
        enforced=None if reason is CloseReason.MAX_TOKENS else limit,
        max_new_tokens=max_new_tokens,
        max_answer_tokens=max_answer_tokens,
        opening=opening if len(opening) <= limit else (),
    )


def check_landing(tags: ResolvedTags, settings: ControllerSettings) -> None:
    """Refuse a wrap-up text that would open, close or end something itself."""
    _check_forced(tags, "wrap-up text", settings.wrap_up)


def _check_forced(tags: ResolvedTags, name: str, ids: tuple[int, ...]) -> None:
    if tags.eos & set(ids) or holds(ids, tags.think_open) or holds(ids, tags.think_close):
        raise InputError(
            f"Wanted a forced {name} without the tags of THINK and without an end of reply, got "
            f"the ids {ids}. Take them out."
        )


def _ends_as_begins(ids: tuple[int, ...], mark: tuple[int, ...]) -> bool:
    """Say whether the model could complete a mark that forced ids began."""
    return any(ids[-count:] == mark[:count] for count in range(1, len(mark)))


def holds(ids: Sequence[int], mark: tuple[int, ...]) -> bool:
    """Say whether a mark stands somewhere in the ids."""
    places = range(len(ids) - len(mark) + 1)
    return any(tuple(ids[at : at + len(mark)]) == mark for at in places)


def advance(matched: int, token: int, mark: tuple[int, ...]) -> int:
    """Return how many ids of a mark the stream ends with, after one more token.

    A match that breaks off can only begin anew: the first id of a tag stands nowhere inside one.
    """
    if matched < len(mark) and token == mark[matched]:
        return matched + 1
    return 1 if token == mark[0] else 0


def lowered_limit(
    kind: RevisionKind, rereading: Rereading, *, thought: int, floor: int, limit: int
) -> int | None:
    """Return the limit that a revision leads to, or None where it would not lower it."""
    if not math.isfinite(rereading.allowed):
        raise ValueError(f"a re-reading needs a finite number of tokens, got {rereading}.")
    wanted = rereading.used + math.ceil(rereading.allowed)
    target = max(thought, floor, wanted if kind is RevisionKind.LOWERED else 0)
    return target if target < limit else None


def close_reason(kind: RevisionKind) -> CloseReason:
    """Return what THINK closes with at a limit that a revision set."""
    match kind:
        case RevisionKind.LOWERED:
            return CloseReason.BUDGET
        case RevisionKind.CONFIDENT:
            return CloseReason.CONFIDENT
        case RevisionKind.HOPELESS:
            return CloseReason.HOPELESS


def segments_of(num_tokens: int, used: int, closer: int) -> list[Segment]:
    """Return the segment of each token of a reply that used `used` THINK tokens.

    A closer of several ids is known as one only when it is complete, so its first ids are taken for
    THINK while they come; this is the final word.
    """
    parts = [Segment.THINK] * used + [Segment.CLOSE] * closer
    return (parts + [Segment.ANSWER] * (num_tokens - len(parts)))[:num_tokens]
