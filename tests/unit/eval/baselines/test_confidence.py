"""Each baseline finds what it looks at where that decides, and nothing where it does not."""

import numpy as np
import pytest

from metacog.eval.baselines import base_rate, p_true
from metacog.eval.baselines.registry import AT_CLOSER, AT_PROMPT
from metacog.eval.metrics import auroc
from tests.unit.eval.evidence import coin, replies

N = 200


def telling(name: str, seed: int):
    """Return replies in which one thing alone says who is right: it is higher there."""
    correct = coin(N, seed)
    noise = np.random.default_rng(seed + 9).normal(size=N) * 0.3
    sign = np.where(correct, 1.0, -1.0) + noise
    states = np.zeros((N, 3, 4), dtype=np.float16)
    columns = {
        "prompt_length": {"prompt_tokens": 20 + 5 * sign},
        "perplexity": {"prompt_logprob": -2 + 0.5 * sign},
        "answer_logprob": {"answer_logprob": -3 + sign},
        "answer_entropy": {"answer_entropy": 2 - 0.5 * sign},
        "response_length": {"natural": (30 - 5 * sign).clip(1)},
        "p_true": {"p_true": (0.5 + 0.2 * sign).clip(0, 1)},
        "tfidf": {"text": np.where(correct, "an easy one", "a hard one")},
    }.get(name, {})
    if name == "last_layer":
        states[:, -1, 0] = sign
        columns = {"prompt_states": states, "close_states": states}
    if name == "scalar_mix":
        states[:, 1, 0], states[:, 1, 1] = sign, 1
        columns = {"prompt_states": states}
    return replies([50] * N, correct=correct, **columns)


@pytest.mark.parametrize(
    ("side", "name"),
    [("prompt", n) for n in AT_PROMPT if n != "base_rate"] + [("closer", n) for n in AT_CLOSER],
)
def test_a_baseline_finds_what_it_looks_at_and_nothing_else(side, name) -> None:
    predict = (AT_PROMPT if side == "prompt" else AT_CLOSER)[name]
    new = telling(name, 1)
    said = predict(telling(name, 0), new)
    assert said.shape == (N,)
    assert ((said >= 0) & (said <= 1)).all()
    assert auroc(said.tolist(), new.correct.tolist()) > 0.95
    blind = replies([50] * N, correct=coin(N, 3))
    assert predict(blind, new).std() < 0.1


def test_the_base_rate_is_the_share_of_right_replies() -> None:
    fit = replies([5] * 4, correct=np.array([True, True, True, False]))
    assert base_rate.predict(fit, replies([5, 6])).tolist() == [0.75, 0.75]


def test_without_words_p_true_is_the_base_rate() -> None:
    fit = replies([5] * 100, correct=coin(100))
    said = p_true.predict(fit, replies([5, 6]))
    np.testing.assert_allclose(said, fit.correct.mean(), atol=0.01)
