"""What a reply says of itself on the wire."""

from dataclasses import asdict
from typing import Any

from metacog.records import BudgetReport, Generation, Opened, Reading, Segment

Data = dict[str, Any]


def usage(prompt: int, replies: list[tuple[int, int]]) -> Data:
    """Return OpenAI's usage from each reply's tokens and how many of them were THINK."""
    tokens = sum(count for count, _ in replies)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": tokens,
        "total_tokens": prompt + tokens,
        "completion_tokens_details": {"reasoning_tokens": sum(think for _, think in replies)},
    }


def opened(event: Opened) -> Data:
    """Return what the layer read, and the budget before anything of it is spent."""
    return read(event.plan, event.reading) | {"budget": budget(event.budget)}


def metacog(reply: Generation, tokens: int, *, hidden: bool) -> Data:
    """Return what the layer read and what became of the budget, up to the last token that counts.

    With hidden thinking the ids are those of the answer.
    """
    gate = reply.gate
    kept = [s for s in reply.steps[:tokens] if not hidden or s.segment is Segment.ANSWER]
    ids = [step.token for step in kept]
    return read(reply.plan, reply.reading) | {
        "budget": budget(reply.budget),
        "close_reason": reply.budget.close_reason,
        "gate_coverage": None if gate is None else gate.coverage,
        "token_ids": ids,
    }


def read(plan: str | None, reading: Reading | None) -> Data:
    """Return what the layer said at the end of the prompt."""
    return {
        "plan": plan,
        "plan_probabilities": None if reading is None else dict(reading.plan),
        "confidence": None if reading is None else reading.confidence,
        "familiarity": None if reading is None else reading.familiarity,
        "alpha": None if reading is None else list(reading.alpha),
    }


def budget(report: BudgetReport) -> Data:
    """Return the budget's four numbers and where it came from."""
    values = asdict(report)
    numbers = {key: values[key] for key in ("requested", "predicted", "enforced", "used")}
    return numbers | {"source": report.source.value}
