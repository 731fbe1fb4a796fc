"""Every baseline by name, with what it is compared on."""

from collections.abc import Mapping

from metacog.eval.baselines import (
    answer_entropy,
    answer_logprob,
    base_rate,
    boosting,
    last_layer,
    p_true,
    perplexity,
    prompt_length,
    response_length,
    ridge,
    scalar_mix,
    tfidf,
)
from metacog.eval.baselines.logistic import Predictor

AT_PROMPT: Mapping[str, Predictor] = {
    "base_rate": base_rate.predict,
    "prompt_length": prompt_length.predict,
    "tfidf": tfidf.predict,
    "perplexity": perplexity.predict,
    "last_layer": last_layer.predict_at_prompt,
    "scalar_mix": scalar_mix.predict,
}
"""Confidence before the first thought."""

AT_CLOSER: Mapping[str, Predictor] = {
    "answer_logprob": answer_logprob.predict,
    "answer_entropy": answer_entropy.predict,
    "response_length": response_length.predict,
    "p_true": p_true.predict,
    "last_layer": last_layer.predict_at_closer,
}
"""Confidence when the answer is there."""

BUDGETS: Mapping[str, Predictor] = {"ridge": ridge.predict, "boosting": boosting.predict}
"""THINK tokens that will be needed."""
