"""What a reply is worth: right, short, and well formed."""

from metacog.records import Generation


def reply_reward(
    reply: Generation,
    *,
    correct: bool,
    lambda_tokens: float,
    format_reward: float,
    max_tokens: int,
) -> float:
    """Return the reward of one reply.

        r = correct - lambda_tokens * (THINK + ANSWER) / B_max + format_reward * well_formed

    ANSWER counts, or reasoning would move there. The THINK tokens are those that were spent, by
    whoever's choice: the cap is part of what the advantage is compared at.

    Args:
        reply: A finished reply.
        correct: Whether its answer is right.
        lambda_tokens: Reward taken away for spending B_max tokens.
        format_reward: Reward for a reply that ended by itself with an answer.
        max_tokens: B_max, in tokens.
    """
    spent = lambda_tokens * reply.spend / max_tokens
    return float(correct) - spent + format_reward * float(is_well_formed(reply))


def is_well_formed(reply: Generation) -> bool:
    """Return whether a reply closed THINK, answered something and ended by itself."""
    return reply.finished and reply.budget.close_reason is not None and len(reply.answer) > 1
