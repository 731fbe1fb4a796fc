"""Close where a trial answer is sure of itself.

Yang et al. 2025, "Dynamic early exit in reasoning models" (DEER): at each point where a thought ends
the model is made to answer, greedily; where the mean probability of that answer's tokens is above a
threshold, thinking stops there. The trials' own tokens are counted beside, not within, the spend.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, unmodulated
from metacog.eval.evidence import Evidence
from metacog.model.bundle import MetacogModel
from metacog.records import Generation, Request, Segment


@dataclass(frozen=True)
class Trials:
    """What trial answers said along each reply."""

    confidence: Float[ndarray, "rows tokens"]
    """Geometric mean of the probabilities of a trial answer's tokens; NaN where none was made."""
    tokens: Float[ndarray, "rows tokens"]
    """ANSWER tokens of each trial; 0 where none was made."""


def trial_answers(bare: MetacogModel, replies: Evidence, *, rows: int = 128) -> Trials:
    """Let a base answer from every line end of its own thinking.

    Args:
        bare: Without a gate: a prefix of THINK that is given is not gated.
        replies: Its own, uncapped.
        rows: Trials that are decoded side by side.
    """
    places = [(int(row), int(cut)) for row, cut in np.argwhere(replies.line_end)]
    requests = [
        Request(
            id=number,
            prompt=(*replies.prompt[row], *replies.think[row][:cut]),
            budget=0,
            temperature=0.0,
            max_new_tokens=len(bare.base.tags.think_close) + bare.decoding.budget.answer_reserve,
            max_answer_tokens=bare.decoding.budget.answer_reserve,
        )
        for number, (row, cut) in enumerate(places)
    ]
    confidence = np.full(replies.line_end.shape, np.nan)
    tokens = np.zeros(replies.line_end.shape)
    settings = unmodulated(engine_settings(bare, rows=rows, revise=False, reread=False))
    for reply in Engine(bare, settings).generate(requests):
        place = places[reply.request_id]
        confidence[place] = sureness(reply)
        tokens[place] = len(reply.answer)
    return Trials(confidence, tokens)


def sureness(reply: Generation) -> float:
    """Return exp of the mean log-probability of an answer's tokens; NaN without an answer."""
    logprobs: Sequence[float] = [s.logprob for s in reply.steps if s.segment is Segment.ANSWER]
    return float(np.exp(np.mean(logprobs))) if logprobs else float("nan")


def stop(replies: Evidence, trials: Trials, threshold: float) -> Float[ndarray, " rows"]:
    """Return the first line end whose trial answer is above the threshold, or the natural length."""
    sure = np.nan_to_num(trials.confidence, nan=-1.0) > threshold
    places = np.where(sure, np.arange(sure.shape[1]), np.inf)
    first: Float[ndarray, " rows"] = np.minimum(places.min(axis=1), replies.natural)
    return first


def cost(trials: Trials, stopped: Float[ndarray, " rows"]) -> Float[ndarray, " rows"]:
    """Return the tokens of the trials that are made until thinking stops, that at the stop among them."""
    made = np.arange(trials.tokens.shape[1]) <= stopped[:, None]
    spent: Float[ndarray, " rows"] = np.where(made, trials.tokens, 0.0).sum(axis=1)
    return spent


def threshold_for(replies: Evidence, trials: Trials, tokens: float) -> float:
    """Return the threshold whose mean stop is nearest to a number of THINK tokens."""
    known = trials.confidence[~np.isnan(trials.confidence)]
    tried = [*np.quantile(known, np.linspace(0, 1, 101)), 1.0] if known.size else [1.0]
    means = np.array([stop(replies, trials, float(value)).mean() for value in tried])
    return float(tried[int(np.abs(means - tokens).argmin())])
