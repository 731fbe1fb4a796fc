"""Confidence from asking the model again: is this answer right? Recalibrated.

A model without words for it (a vocabulary of digits and marks) says nothing, and gets the base rate.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from metacog.eval.baselines.logistic import logistic
from metacog.eval.evidence import Evidence


def log_odds(replies: Evidence) -> Float[ndarray, "rows columns"]:
    """Return log p / (1 - p) of what the model said; NaN where it could not."""
    said = replies.p_true.clip(1e-6, 1 - 1e-6)
    odds: Float[ndarray, "rows columns"] = np.log(said / (1 - said))[:, None]
    return odds


predict = logistic(log_odds)
