"""Confidence from how undecided the base was while it answered: the mean entropy of its tokens."""

from jaxtyping import Float
from numpy import ndarray

from metacog.eval.baselines.logistic import logistic
from metacog.eval.evidence import Evidence


def entropies(replies: Evidence) -> Float[ndarray, "rows columns"]:
    """Return the mean entropy of the answer's tokens in nats; NaN without an answer."""
    return replies.answer_entropy[:, None]


predict = logistic(entropies)
