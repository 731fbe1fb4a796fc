"""No budget at all: the base closes where it closes by itself."""

from jaxtyping import Float
from numpy import ndarray

from metacog.eval.evidence import Evidence


def stop(replies: Evidence) -> Float[ndarray, " rows"]:
    """Return the natural lengths."""
    return replies.natural
