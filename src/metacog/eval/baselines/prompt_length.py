"""Confidence from how long the prompt is: its tokens and their logarithm."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from metacog.eval.baselines.logistic import logistic
from metacog.eval.evidence import Evidence


def lengths(replies: Evidence) -> Float[ndarray, "rows columns"]:
    """Return the number of the prompt's tokens and its logarithm."""
    tokens = replies.prompt_tokens
    return np.stack([tokens, np.log(tokens)], axis=1)


predict = logistic(lengths)
