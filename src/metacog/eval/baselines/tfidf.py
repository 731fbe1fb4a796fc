"""Confidence from the question's words alone: TF-IDF and logistic regression."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from metacog.eval.evidence import Evidence


def predict(fit: Evidence, new: Evidence) -> Float[ndarray, " rows"]:
    """Return the probability of being right by words and pairs of words, numbers among them."""
    if len(set(fit.correct.tolist())) < 2:
        return np.full(len(new), float(fit.correct.mean()))
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", sublinear_tf=True),
        LogisticRegression(C=10.0, max_iter=2000),
    )
    model.fit(fit.text.tolist(), fit.correct)
    said: Float[ndarray, " rows"] = model.predict_proba(new.text.tolist())[:, 1]
    return said
