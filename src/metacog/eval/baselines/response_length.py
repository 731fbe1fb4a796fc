"""Confidence from how long the reply is: THINK and ANSWER tokens."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from metacog.eval.baselines.logistic import logistic
from metacog.eval.evidence import Evidence


def lengths(replies: Evidence) -> Float[ndarray, "rows columns"]:
    """Return THINK tokens, their logarithm, and ANSWER tokens."""
    return np.stack([replies.natural, np.log1p(replies.natural), replies.answer_tokens], axis=1)


predict = logistic(lengths)
