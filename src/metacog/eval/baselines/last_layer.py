"""Confidence from the last block alone: a linear probe on its state, at the prompt or the closer."""

from jaxtyping import Float
from numpy import ndarray

from metacog.eval.baselines.logistic import logistic
from metacog.eval.evidence import Evidence

STRENGTH = 0.1
"""Inverse penalty: states have many columns for few replies."""


def at_prompt(replies: Evidence) -> Float[ndarray, "rows columns"]:
    """Return the last block's state at the last prompt token."""
    return replies.prompt_states[:, -1].astype(float)


def at_closer(replies: Evidence) -> Float[ndarray, "rows columns"]:
    """Return the last block's state at the closer."""
    return replies.close_states[:, -1].astype(float)


predict_at_prompt = logistic(at_prompt, strength=STRENGTH)
predict_at_closer = logistic(at_closer, strength=STRENGTH)
