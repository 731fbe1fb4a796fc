"""Confidence from how usual the prompt is to the base: its perplexity."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from metacog.eval.baselines.logistic import logistic
from metacog.eval.evidence import Evidence


def perplexities(replies: Evidence) -> Float[ndarray, "rows columns"]:
    """Return the prompt's mean surprise in nats and its perplexity."""
    surprise = -replies.prompt_logprob
    return np.stack([surprise, np.exp(surprise)], axis=1)


predict = logistic(perplexities)
