"""Rules of stopping beside the learned budgets: what each reaches on the same uncapped replies, exactly."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from metacog.data.tasks.questions import Question
from metacog.eval.baselines import (
    constant,
    deer,
    entropy_threshold,
    first_check,
    label,
    oracle,
    own_stopping,
    self_consistency,
)
from metacog.eval.evidence import Evidence, collect_evidence
from metacog.eval.matching import bisect, match_spend
from metacog.eval.proof.row import Json
from metacog.model.bundle import MetacogModel


def stopping_rules(fit: Evidence, test: Evidence, tokens: float) -> dict[str, Json]:
    """Return accuracy and THINK tokens of every rule that needs no decoding of its own.

    Rules with a knob are set on `fit` to spend `tokens` in the mean there; what they spend on `test`
    stands beside. The oracle alone is set on `test`: it is a bound, not a rule.

    Args:
        fit: Replies to other questions.
        test: Replies to stop.
        tokens: Mean THINK tokens of the learned budgets.
    """
    cap = constant.cap_for(fit, tokens)
    factor = match_spend(
        lambda value: float(np.minimum(label.caps(fit, fit, value), fit.natural).mean()), tokens
    )
    threshold = entropy_threshold.threshold_for(fit, tokens)
    generosity = bisect(
        lambda value: float(oracle.stop(test, 1 - value).mean()), tokens, 0.0, 1.0, 1e-6
    )
    return {
        "own_stopping": _reached(test, own_stopping.stop(test)),
        "constant": _reached(test, constant.caps(test, cap)),
        "label": _reached(test, label.caps(fit, test, factor)),
        "first_check": _reached(test, first_check.stop(test)),
        "entropy_threshold": _reached(test, entropy_threshold.stop(test, threshold)),
        "oracle": _reached(test, oracle.stop(test, 1 - generosity)),
    }


def decoded_rules(
    bare: MetacogModel,
    fit: Sequence[Question],
    test: Sequence[Question],
    *,
    think: float,
    spend: float,
) -> dict[str, Json]:
    """Return what rules reach on the bare base: trial answers and votes, which decode, among them.

    Args:
        bare: The base as a user has it, without layer and gate.
        fit: Questions on which knobs are set.
        test: Other questions, on which the rules are measured.
        think: Mean THINK tokens of the learned budgets.
        spend: Their mean THINK and ANSWER tokens.
    """
    before, replies = (collect_evidence(bare, asked, (0,)) for asked in (fit, test))
    threshold = deer.threshold_for(before, deer.trial_answers(bare, before), think)
    trials = deer.trial_answers(bare, replies)
    stopped = deer.stop(replies, trials, threshold)
    voted = self_consistency.run(bare, test, self_consistency.cap_for(before, spend))
    sure = entropy_threshold.threshold_for(before, think)
    return {
        "bare_own_stopping": _reached(replies, own_stopping.stop(replies)),
        "bare_first_check": _reached(replies, first_check.stop(replies)),
        "bare_entropy_threshold": _reached(replies, entropy_threshold.stop(replies, sure)),
        "trial_answers": {
            **_reached(replies, stopped),
            "trial_tokens": float(deer.cost(trials, stopped).mean()),
            "n": len(test),
        },
        "self_consistency": {
            "accuracy": voted.accuracy,
            "spend": voted.spend,
            "votes": self_consistency.VOTES,
            "n": len(test),
        },
    }


def _reached(test: Evidence, stop: Float[ndarray, " rows"]) -> Json:
    """Return the expected accuracy and THINK tokens; a fraction is a draw between its neighbours."""
    held = np.minimum(stop, test.natural)
    low = np.floor(held)
    below, above = test.right_at(low), test.right_at(np.minimum(low + 1, test.natural))
    return {
        "accuracy": float((below + (held - low) * (above - below)).mean()),
        "think_tokens": float(held.mean()),
    }
