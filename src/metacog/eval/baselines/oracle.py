"""Closes each reply where it is most likely right, as early as that is so: what nobody can know."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from metacog.eval.evidence import Evidence


def stop(replies: Evidence, price: float = 0.0) -> Float[ndarray, " rows"]:
    """Return argmax over k of right(k) - price k, the smallest of equals."""
    places = np.arange(replies.right.shape[1])
    worth = np.where(places <= replies.natural[:, None], replies.right - price * places, -np.inf)
    best: Float[ndarray, " rows"] = worth.argmax(axis=1).astype(np.float64)
    return best
