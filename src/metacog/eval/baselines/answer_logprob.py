"""Confidence from the probability of the answer that was given, recalibrated (Platt's scaling)."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from metacog.eval.baselines.logistic import logistic
from metacog.eval.evidence import Evidence


def logprobs(replies: Evidence) -> Float[ndarray, "rows columns"]:
    """Return the answer's log-probability, and its mean over tokens."""
    total = replies.answer_logprob
    return np.stack([total, total / np.maximum(replies.answer_tokens, 1)], axis=1)


predict = logistic(logprobs)
