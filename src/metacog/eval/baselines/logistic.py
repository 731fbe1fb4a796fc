"""Columns to a probability: standardised logistic regression, what most confidence baselines end in."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metacog.eval.evidence import Evidence

Columns = Callable[[Evidence], Float[ndarray, "rows columns"]]
Predictor = Callable[[Evidence, Evidence], Float[ndarray, " rows"]]
"""Fits to one set of replies and predicts for another."""


def logistic(columns: Columns, *, strength: float = 1.0) -> Predictor:
    """Return a predictor of being right: sigmoid(w x + b), x the standardised columns.

    Args:
        columns: Makes x of replies; NaN stands for the column's mean.
        strength: Inverse of the weight of |w|^2.
    """

    def predict(fit: Evidence, new: Evidence) -> Float[ndarray, " rows"]:
        model = make_pipeline(
            SimpleImputer(keep_empty_features=True),
            StandardScaler(),
            LogisticRegression(C=strength, max_iter=2000),
        )
        if len(set(fit.correct.tolist())) < 2:
            return np.full(len(new), float(fit.correct.mean()))
        model.fit(columns(fit), fit.correct)
        said: Float[ndarray, " rows"] = model.predict_proba(columns(new))[:, 1]
        return said

    return predict
