"""Close after the first check: once the base has verified its work, the rest is doubt."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from metacog.eval.evidence import Evidence


def stop(replies: Evidence) -> Float[ndarray, " rows"]:
    """Return the place behind the first mark that closes a check, or the natural length."""
    places = np.where(replies.check_mark, np.arange(replies.check_mark.shape[1]), np.inf)
    first: Float[ndarray, " rows"] = np.minimum(places.min(axis=1), replies.natural)
    return first
