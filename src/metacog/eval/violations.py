"""Cap violations, counted from a reply's tokens: not from what the controller counted of them."""

from collections.abc import Sequence

from metacog.decode.terms import NO_LIMIT
from metacog.records import BudgetReport, Generation

Ids = tuple[int, ...]


def places(ids: Sequence[int], mark: Ids) -> list[int]:
    """Return where a mark begins in some ids."""
    last = len(ids) - len(mark)
    return [at for at in range(last + 1) if tuple(ids[at : at + len(mark)]) == mark]


def think_length(ids: Sequence[int], close: Ids) -> int:
    """Return the ids of a reply that come before its first closer."""
    return next(iter(places(ids, close)), len(ids))


def violations(reply: Generation, close: Ids, *, room: int | None = None) -> list[str]:
    """Return in which ways a reply broke its cap; none where it kept it.

    Args:
        reply: As it was emitted.
        close: Ids of the closer.
        room: THINK tokens that the reply's limit leaves beside closer and answer reserve, if known.
    """
    ids = [step.token for step in reply.steps]
    length, cap = think_length(ids, close), lowest_cap(reply.budget)
    broken = {
        "not exactly one closer": len(places(ids, close)) != 1,
        "over the cap": cap is not None and length > cap,
        "answer reserve not kept": room is not None and length > room,
    }
    return [name for name, is_broken in broken.items() if is_broken]


def lowest_cap(budget: BudgetReport) -> int | None:
    """Return the lowest cap that was ever in force, for a budget only goes down; None without any."""
    caps = [budget.requested, budget.enforced, *(r.budget_after for r in budget.revisions)]
    return min((cap for cap in caps if cap is not None and cap != NO_LIMIT), default=None)
