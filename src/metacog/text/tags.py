"""The marks that open and close the segments of a reply: one set for training and serving."""

from dataclasses import dataclass

PLAN_NAMES = ("direct", "outline", "decompose", "verify")


@dataclass(frozen=True)
class Tag:
    """A pair of marks around one kind of segment."""

    name: str
    open: str
    close: str


THINK = Tag("think", "<think>", "</think>")
PLAN = Tag("plan", "<plan>", "</plan>")
EXEC = Tag("exec", "<exec>", "</exec>")
EVAL = Tag("eval", "<eval>", "</eval>")

INNER = (PLAN, EXEC, EVAL)
"""The tags inside THINK."""
TAGS = (THINK, *INNER)


def plan_mark(plan: str) -> str:
    """Return the line that opens THINK under a plan, e.g. `<plan>verify</plan>` and a newline."""
    return f"{PLAN.open}{plan}{PLAN.close}\n"
