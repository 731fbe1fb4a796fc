"""Close at the first line end where the base is sure of what it would write next.

The threshold is fixed elsewhere, so that a chosen mean spend is met.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from metacog.eval.evidence import Evidence


def stop(replies: Evidence, threshold: float) -> Float[ndarray, " rows"]:
    """Return the first line end with an entropy of at most `threshold` nats, or the natural length."""
    sure = replies.line_end & (replies.entropy <= threshold)
    places = np.where(sure, np.arange(sure.shape[1]), np.inf)
    first: Float[ndarray, " rows"] = np.minimum(places.min(axis=1), replies.natural)
    return first


def threshold_for(replies: Evidence, tokens: float) -> float:
    """Return the threshold whose mean stop is nearest to a number of THINK tokens, or below it."""
    entropies = replies.entropy[replies.line_end]
    tried = np.quantile(entropies, np.linspace(0, 1, 101)) if entropies.size else np.zeros(1)
    means = np.array([stop(replies, float(value)).mean() for value in tried])
    return float(tried[int(np.abs(means - tokens).argmin())])
