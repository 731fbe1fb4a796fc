"""A budget from family, operands and length: gradient boosting with absolute error."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sklearn.ensemble import HistGradientBoostingRegressor

from metacog.eval.baselines.operands import columns
from metacog.eval.evidence import Evidence


def predict(fit: Evidence, new: Evidence) -> Float[ndarray, " rows"]:
    """Return THINK tokens that will be needed; rows without need are not fitted to."""
    known = ~np.isnan(fit.need)
    model = HistGradientBoostingRegressor(loss="absolute_error", max_iter=200, random_state=0)
    table = columns(fit)[known]
    there = ~np.isnan(table).all(axis=0)  # a column that nobody has can't be put into bins
    model.fit(table[:, there], fit.need[known])
    said: Float[ndarray, " rows"] = model.predict(columns(new)[:, there]).clip(min=1)
    return said
