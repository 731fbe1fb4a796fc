"""Draws the next token of every row: a row's draw never depends on its neighbours.

    token = argmax(logits + temperature * noise),   noise ~ Gumbel(0, 1)

which samples from softmax(logits / temperature). Noise is a hash of (seed, request id, index of the
token, vocabulary id), so the same request draws the same tokens in any batch and any order.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from metacog.decode.array_rule import Flags, Ints
from metacog.decode.batch_budget import BatchDecision

Reals = NDArray[np.float32]


def _signed(constant: int) -> int:
    """Return the 64-bit integer with these bits as torch writes it."""
    return constant - (1 << 64) if constant >> 63 else constant


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)
_RANDOM_BITS = 40
_BELOW_ONE = 1 - 2**-24
"""The largest float32 below 1."""
_MOST_AHEAD, _NUMBERS_AHEAD = 32, 2**15
"""Tokens of noise that are made at once, as long as they are no more numbers than these."""


@dataclass(frozen=True)
class Repetition:
    """What makes tokens that were already written less likely."""

    seen: Bool[Tensor, "rows vocab"]
    penalty: Float[Tensor, " rows"]
    """Divides positive and multiplies negative logits; 1 is off."""


@dataclass(frozen=True)
class Choice:
    """The next token of each row."""

    token: Ints
    altered: Flags
    """The model chose, but under a bias, or because its first choice was suppressed."""


class Noise:
    """The noise of the running rows, some tokens ahead where rows are few.

    On one row the many small operations of the hash cost far more than the numbers they make.

    Args:
        vocab: Vocabulary ids that noise is wanted for.
        device: Where the logits are.
    """

    def __init__(self, vocab: int, device: torch.device) -> None:
        self._vocab, self._device = vocab, device
        self._keys = self._first = np.zeros(0, dtype=np.int64)
        self._ahead = torch.zeros(0, 0, vocab)

    def of(self, keys: Ints, indices: Ints) -> Float[Tensor, "rows vocab"]:
        """Return `gumbel_of` these keys and indices."""
        at = int(indices[0] - self._first[0]) if len(keys) == len(self._first) else -1
        known = 0 <= at < self._ahead.shape[1] and np.array_equal(indices, self._first + at)
        if not (known and np.array_equal(keys, self._keys)):
            self._look_ahead(keys, indices)
            at = 0
        return self._ahead[:, at]

    def _look_ahead(self, keys: Ints, indices: Ints) -> None:
        count = min(_MOST_AHEAD, max(1, _NUMBERS_AHEAD // (len(keys) * self._vocab)))
        self._keys, self._first = keys.copy(), indices.copy()
        each = torch.from_numpy(np.repeat(keys, count)).to(self._device)
        at = torch.from_numpy((indices[:, None] + np.arange(count)).reshape(-1)).to(self._device)
        noise = gumbel_of(each, at, self._vocab)
        self._ahead = noise.view(len(keys), count, self._vocab)


def gumbel(
    seeds: Int[Tensor, " rows"],
    request_ids: Int[Tensor, " rows"],
    indices: Int[Tensor, " rows"],
    vocab: int,
) -> Float[Tensor, "rows vocab"]:
    """Return standard Gumbel noise, a pure function of seed, request id, index and vocabulary id.

    With 40 random bits u in (0, 1): noise = -log(-log(1 - u)), exact in the tail that decides.
    """
    return gumbel_of(streams(seeds, request_ids), indices, vocab)


def streams(seeds: Int[Tensor, " rows"], request_ids: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """Return what keys all of a reply's noise: a hash of its seed and request id."""
    key = torch.zeros_like(seeds, dtype=torch.long)
    for part in (seeds, request_ids):
        key = _mix(key + part.long() + _GOLDEN)
    return key


def gumbel_of(
    keys: Int[Tensor, " rows"], indices: Int[Tensor, " rows"], vocab: int
) -> Float[Tensor, "rows vocab"]:
    """Return the noise of `gumbel` for replies whose `streams` are known."""
    key = _mix(keys + indices.long() + _GOLDEN)
    steps = torch.arange(1, vocab + 1, device=keys.device) * _GOLDEN
    bits = _shifted(_mix(key.unsqueeze(1) + steps), 64 - _RANDOM_BITS)
    minus_uniform = bits.float().add_(0.5).mul_(-(2.0**-_RANDOM_BITS)).clamp_(min=-_BELOW_ONE)
    return minus_uniform.log1p_().neg_().log_().neg_()


def choose(
    logits: Float[Tensor, "rows vocab"],
    noise: Float[Tensor, "rows vocab"] | None,
    *,
    temperature: Reals,
    top_p: Reals,
    decision: BatchDecision,
    repetition: Repetition | None = None,
) -> Choice:
    """Choose a token for each row: the forced one, else the sampler's.

    A row draws as if unconstrained. Only where that draw is suppressed, or a bias holds, does it
    draw again under the constraints; so every other token comes from the model's own distribution.

    Args:
        logits: The model's, untouched.
        noise: From `gumbel`; not needed where every temperature is 0.
        temperature: 0 takes the likeliest token.
        top_p: Share of probability that is kept, likeliest tokens first; 1 keeps all.
        decision: What the controller says of these rows.
        repetition: Leave out where every penalty is 1.
    """
    scores = logits.float()
    if repetition is not None:
        scores = _penalised(scores, repetition)
    sampler = _Sampler(noise, torch.from_numpy(temperature).to(logits.device), top_p)
    token = _draw(scores, sampler)
    altered = np.zeros(len(token), dtype=np.bool_)
    hit = token[decision.suppressed_rows] == decision.suppressed_ids
    altered[decision.suppressed_rows[hit]] = True
    altered[decision.bias_rows] = True
    again = np.flatnonzero(altered)
    if len(again):
        token[again] = _draw(_constrained(scores, decision)[again], sampler.only(again))
    return Choice(np.where(decision.forced >= 0, decision.forced, token), altered)


def _constrained(
    scores: Float[Tensor, "rows vocab"], decision: BatchDecision
) -> Float[Tensor, "rows vocab"]:
    held = scores.clone()
    held[decision.bias_rows, decision.bias_ids] += torch.from_numpy(decision.bias_values).to(held)
    held[decision.suppressed_rows, decision.suppressed_ids] = -torch.inf
    return held


def token_logprob(
    logits: Float[Tensor, "rows vocab"], token: Int[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    """Return each token's log-probability under softmax(logits)."""
    return logits.float().log_softmax(1).gather(1, token.unsqueeze(1)).squeeze(1)


class _Sampler(NamedTuple):
    """What each row draws with."""

    noise: Float[Tensor, "rows vocab"] | None
    temperature: Float[Tensor, " rows"]
    top_p: Reals

    def only(self, rows: Ints) -> "_Sampler":
        noise = None if self.noise is None else self.noise[rows]
        return _Sampler(noise, self.temperature[rows], self.top_p[rows])


def _draw(scores: Float[Tensor, "rows vocab"], sampler: _Sampler) -> Ints:
    """Return argmax(scores + temperature * noise), which is that of scores / temperature + noise."""
    if (sampler.top_p < 1).any():
        scores = _nucleus(scores, sampler)
    if sampler.noise is not None:
        scores = torch.addcmul(scores, sampler.temperature.unsqueeze(1), sampler.noise)
    token: Ints = scores.argmax(1).cpu().numpy()
    return token


def _nucleus(scores: Float[Tensor, "rows vocab"], sampler: _Sampler) -> Float[Tensor, "rows vocab"]:
    """Rule out what lies behind the likeliest tokens that together reach `top_p`."""
    temperature = sampler.temperature.unsqueeze(1)
    top_p = torch.from_numpy(sampler.top_p).to(scores.device).unsqueeze(1)
    scaled = scores / torch.where(temperature == 0, 1.0, temperature)
    probability, order = scaled.softmax(1).sort(dim=1, descending=True, stable=True)
    before = probability.cumsum(1) - probability
    # The sum of all may round to a little above 1, and a row with 1 keeps everything.
    outside = (before >= top_p) & (top_p < 1)
    outside[:, 0] = False
    return scores.masked_fill(torch.zeros_like(outside).scatter(1, order, outside), -torch.inf)


def _penalised(
    logits: Float[Tensor, "rows vocab"], repetition: Repetition
) -> Float[Tensor, "rows vocab"]:
    penalty = repetition.penalty.unsqueeze(1)
    less_likely = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(repetition.seen, less_likely, logits)


def _shifted(bits: Int[Tensor, "..."], by: int) -> Int[Tensor, "..."]:
    """Return the bits moved right with zeros moved in; torch's own shift repeats the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _mix(bits: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Return the finaliser of splitmix64: every input bit flips about half of the output's."""
    bits = (bits ^ _shifted(bits, 30)) * _MIX_1
    bits = (bits ^ _shifted(bits, 27)) * _MIX_2
    return bits ^ _shifted(bits, 31)
