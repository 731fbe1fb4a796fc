"""A budget from family, operands and length: ridge regression on the logarithm of need.

Its median is what least absolute error asks for, and a logarithm keeps medians.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metacog.eval.baselines.operands import columns
from metacog.eval.evidence import Evidence


def predict(fit: Evidence, new: Evidence) -> Float[ndarray, " rows"]:
    """Return THINK tokens that will be needed; rows without need are not fitted to."""
    known = ~np.isnan(fit.need)
    model = make_pipeline(StandardScaler(), RidgeCV(np.geomspace(1e-2, 1e4, 13)))
    model.fit(_filled(fit)[known], np.log1p(fit.need[known]))
    said: Float[ndarray, " rows"] = np.expm1(model.predict(_filled(new))).clip(min=1)
    return said


def _filled(replies: Evidence) -> Float[ndarray, "rows columns"]:
    """Return the columns with the logarithms of the operands, 0 for those that are missing."""
    found = columns(replies)
    logs = np.log1p(np.abs(replies.operands))
    filled: Float[ndarray, "rows columns"] = np.nan_to_num(np.concatenate([found, logs], axis=1))
    return filled
