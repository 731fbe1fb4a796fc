"""What a reply says of itself on the wire."""

from dataclasses import asdict
from typing import Any

from metacog.records import Generation

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


def finish_reason(reply: Generation | None) -> str:
    """Return `length` where a limit ended a reply; a stop text leaves no reply of the engine's."""
    return "stop" if reply is None or reply.finished else "length"


def metacog(reply: Generation | None) -> Data | None:
    """Return what the layer read and what became of the budget; null where nobody knows.

    A reply that a stop text ended before the engine did has no report.
    """
    if reply is None:
        return None
    budget, reading, gate = asdict(reply.budget), reply.reading, reply.gate
    return {
        "plan": reply.plan,
        "plan_probabilities": None if reading is None else dict(reading.plan),
        "budget": {key: budget[key] for key in ("requested", "predicted", "enforced", "used")}
        | {"source": reply.budget.source.value},
        "close_reason": reply.budget.close_reason,
        "confidence": None if reading is None else reading.confidence,
        "alpha": None if reading is None else list(reading.alpha),
        "gate_coverage": None if gate is None else gate.coverage,
        "token_ids": [step.token for step in reply.steps],
    }
