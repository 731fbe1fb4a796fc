"""One cap for all, randomised between whole neighbours so that any mean spend can be met."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from metacog.eval.evidence import Evidence
from metacog.eval.matching import match_spend


def caps(replies: Evidence, cap: float) -> Float[ndarray, " rows"]:
    """Return the cap, once a reply."""
    return np.full(len(replies), cap)


def cap_for(replies: Evidence, tokens: float) -> float:
    """Return the cap whose mean spend is a number of THINK tokens."""
    return match_spend(lambda cap: float(np.minimum(cap, replies.natural).mean()), tokens)
