"""Noise keyed by request, and the choice of a token under what the controller says."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from metacog.decode.array_rule import Ints
from metacog.decode.batch_budget import BatchDecision
from metacog.decode.sampling import (
    Noise,
    Repetition,
    choose,
    gumbel,
    gumbel_of,
    streams,
    token_logprob,
)

VOCABULARY = 5
LOGITS = torch.tensor([1.0, 0.5, 0.0, -0.5, -2.0])


def decision(
    rows: int,
    forced: dict[int, int] | None = None,
    suppressed: list[tuple[int, int]] | None = None,
    biases: list[tuple[int, int, float]] | None = None,
) -> BatchDecision:
    tokens = np.full(rows, -1, dtype=np.int64)
    for row, token in (forced or {}).items():
        tokens[row] = token
    held = np.array(suppressed or [], dtype=np.int64).reshape(-1, 2)
    raised = biases or []
    return BatchDecision(
        forced=tokens,
        suppressed_rows=held[:, 0],
        suppressed_ids=held[:, 1],
        bias_rows=np.array([row for row, _, _ in raised], dtype=np.int64),
        bias_ids=np.array([token for _, token, _ in raised], dtype=np.int64),
        bias_values=np.array([value for _, _, value in raised], dtype=np.float32),
    )


def noise(rows: int, vocab: int = VOCABULARY, seed: int = 0) -> Tensor:
    """Noise of many tokens of one request."""
    return gumbel(torch.full((rows,), seed), torch.full((rows,), 3), torch.arange(rows), vocab)


def draw(
    rows: int,
    said: BatchDecision | None = None,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    repetition: Repetition | None = None,
    logits: Tensor = LOGITS,
):
    return choose(
        logits.expand(rows, -1),
        noise(rows),
        temperature=np.full(rows, temperature, dtype=np.float32),
        top_p=np.full(rows, top_p, dtype=np.float32),
        decision=said or decision(rows),
        repetition=repetition,
    )


def fit(token: Ints, expected: Tensor) -> float:
    """Return the p-value of drawn tokens under the expected probabilities."""
    counts = np.bincount(token, minlength=len(expected))
    possible = expected.numpy() > 0
    assert counts[~possible].sum() == 0
    share = expected.double().numpy()[possible]
    return float(stats.chisquare(counts[possible], share / share.sum() * len(token)).pvalue)


def test_noise_has_the_gumbel_distribution() -> None:
    drawn = noise(2000, 100).flatten().double()
    assert drawn.mean().item() == pytest.approx(0.57722, abs=0.01)
    assert drawn.var().item() == pytest.approx(math.pi**2 / 6, rel=0.02)
    assert stats.kstest(drawn[::7].numpy(), "gumbel_r").pvalue > 1e-3
    assert torch.isfinite(drawn).all()


@pytest.mark.parametrize("other", ["seed", "request", "index"])
def test_noise_is_independent_across_keys(other: str) -> None:
    base = {"seed": torch.zeros(4000), "request": torch.zeros(4000), "index": torch.zeros(4000)}
    keys = {name: value.long() for name, value in base.items()}
    keys[other] = torch.arange(4000)
    drawn = gumbel(keys["seed"], keys["request"], keys["index"], 4).double()
    pairs = [
        (drawn[1:, 0], drawn[:-1, 0]),
        (drawn[:, 0], drawn[:, 1]),
        (drawn[2:, 3], drawn[:-2, 3]),
    ]
    for one, two in pairs:
        assert abs(np.corrcoef(one.numpy(), two.numpy())[0, 1]) < 0.06


def test_the_parts_of_a_key_do_not_stand_in_for_each_other() -> None:
    parts = torch.tensor([[1, 2, 3], [3, 2, 1], [2, 1, 3], [1, 3, 2], [0, 0, 6], [-1, 2, 3]])
    drawn = gumbel(parts[:, 0], parts[:, 1], parts[:, 2], 8)
    assert len({tuple(row) for row in drawn.tolist()}) == len(parts)


def test_noise_is_the_same_in_any_batch() -> None:
    seeds, requests, indices = torch.tensor([5, 0, 7]), torch.arange(3), torch.tensor([0, 9, 2**40])
    together = gumbel(seeds, requests, indices, 50)
    order = torch.tensor([2, 0, 1])
    assert torch.equal(gumbel(seeds[order], requests[order], indices[order], 50), together[order])
    for row in range(3):
        one = slice(row, row + 1)
        assert torch.equal(gumbel(seeds[one], requests[one], indices[one], 50), together[one])
    assert torch.equal(gumbel(seeds, requests, indices, 20), together[:, :20])


def test_noise_ahead_is_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows join, leave, move and stop at different indices; noise is made again only then."""
    keys = streams(torch.tensor([5, 0, 7]), torch.arange(3)).numpy()
    made, drawn = [], Noise(50, torch.device("cpu"))

    def counted(*key: Any) -> Tensor:
        made.append(key)
        return gumbel_of(*key)

    monkeypatch.setattr("metacog.decode.sampling.gumbel_of", counted)
    steps = [([0, 1], [at, 7 + at]) for at in range(40)]
    steps += [([1, 0], [50, 60]), ([1, 0], [50, 60]), ([1, 0], [51, 62]), ([2, 0], [52, 63])]
    steps += [([2], [53]), ([2], [54]), ([2, 1, 0], [55, 0, 1]), ([2, 1, 0], [54, 0, 1])]
    for rows, indices in steps:
        key, index = keys[rows], np.array(indices)
        wanted = gumbel_of(torch.from_numpy(key), torch.from_numpy(index), 50)
        assert torch.equal(drawn.of(key, index), wanted)
    assert len(made) == 2 + 6, "40 tokens of two rows take two looks ahead"


def test_a_large_vocabulary_is_not_looked_ahead() -> None:
    drawn = Noise(2**16, torch.device("cpu"))
    assert drawn.of(np.array([3]), np.array([0])).shape == (1, 2**16)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_softmax_says(temperature: float) -> None:
    choice = draw(20_000, temperature=temperature)
    assert fit(choice.token, (LOGITS / temperature).softmax(0)) > 1e-3
    assert not choice.altered.any()


def test_temperature_zero_takes_the_likeliest() -> None:
    assert set(draw(50, temperature=0.0).token.tolist()) == {0}
    mixed = choose(
        LOGITS.expand(2000, -1),
        noise(2000),
        temperature=(np.arange(2000) % 2).astype(np.float32),
        top_p=np.ones(2000, dtype=np.float32),
        decision=decision(2000),
    )
    assert set(mixed.token[::2].tolist()) == {0}
    assert set(mixed.token[1::2].tolist()) == {0, 1, 2, 3, 4}


def test_top_p_keeps_the_likeliest_tokens_that_reach_it() -> None:
    probability = LOGITS.softmax(0)
    kept = probability.clone()
    kept[2:] = 0
    assert probability[0] < 0.6 < probability[0] + probability[1]
    assert fit(draw(20_000, top_p=0.6).token, kept / kept.sum()) > 1e-3
    assert set(draw(200, top_p=0.01).token.tolist()) == {0}


def test_a_row_without_top_p_is_untouched_by_its_neighbours() -> None:
    rows = 400
    top_p = np.ones(rows, dtype=np.float32)
    top_p[::2] = 0.3
    mixed = choose(
        LOGITS.expand(rows, -1),
        noise(rows),
        temperature=np.ones(rows, dtype=np.float32),
        top_p=top_p,
        decision=decision(rows),
    )
    assert np.array_equal(mixed.token[1::2], draw(rows).token[1::2])


def test_a_forced_token_comes_and_is_not_the_models() -> None:
    choice = draw(3, decision(3, forced={1: 4}), temperature=0.0)
    assert choice.token.tolist() == [0, 4, 0]
    assert choice.altered.tolist() == [False, False, False]


def test_a_suppressed_first_choice_is_drawn_again() -> None:
    rows = 20_000
    free = draw(rows)
    held = draw(rows, decision(rows, suppressed=[(row, 0) for row in range(rows)]))
    assert np.array_equal(held.altered, free.token == 0)
    assert np.array_equal(held.token[~held.altered], free.token[~held.altered])
    without = LOGITS.softmax(0)
    without[0] = 0
    assert fit(held.token, without / without.sum()) > 1e-3


def test_suppression_works_with_top_p_and_greedy() -> None:
    said = decision(2, suppressed=[(0, 0), (1, 0), (1, 1)])
    assert draw(2, said, temperature=0.0).token.tolist() == [1, 2]
    assert draw(2, said, top_p=0.1).token.tolist() == [1, 2]


def test_a_bias_is_applied_and_said() -> None:
    rows = 20_000
    said = decision(rows, biases=[(row, 4, 2.0) for row in range(rows)])
    raised = LOGITS.clone()
    raised[4] += 2.0
    choice = draw(rows, said)
    assert choice.altered.all()
    assert fit(choice.token, raised.softmax(0)) > 1e-3
    assert draw(2, decision(2, biases=[(0, 4, 50.0)]), temperature=0.0).token.tolist() == [4, 0]


def test_log_probabilities_are_the_models_own() -> None:
    token = torch.arange(VOCABULARY)
    expected = LOGITS.log_softmax(0)
    rows = LOGITS.expand(VOCABULARY, -1)
    torch.testing.assert_close(token_logprob(rows, token), expected)
    torch.testing.assert_close(token_logprob(rows.bfloat16(), token), expected, atol=1e-2, rtol=0)


def test_a_penalty_holds_seen_tokens_back() -> None:
    seen = torch.zeros(2, VOCABULARY, dtype=torch.bool)
    seen[:, 0] = True
    repetition = Repetition(seen, torch.tensor([4.0, 1.0]))
    choice = draw(2, temperature=0.0, repetition=repetition)
    assert choice.token.tolist() == [1, 0]
    assert draw(2, temperature=0.0, repetition=repetition, logits=LOGITS - 3).token.tolist() == [
        1,
        0,
    ]


def test_logits_are_left_as_they_were() -> None:
    logits = LOGITS.repeat(2, 1)
    choose(
        logits,
        noise(2),
        temperature=np.ones(2, dtype=np.float32),
        top_p=np.full(2, 0.5, dtype=np.float32),
        decision=decision(2, suppressed=[(0, 0), (1, 0)], biases=[(0, 3, 2.0)]),
    )
    assert torch.equal(logits, LOGITS.repeat(2, 1))
