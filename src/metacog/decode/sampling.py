"""Draws the next token of every row: a row's draw never depends on its neighbours.

    token = argmax(logits / temperature + noise),   noise ~ Gumbel(0, 1)

which samples from softmax(logits / temperature). Noise is a hash of (seed, request id, index of the
token, vocabulary id), so the same request draws the same tokens in any batch and any order.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metacog.decode.array_rule import Ints
from metacog.decode.batch_budget import BatchDecision


def _signed(constant: int) -> int:
    """Return the 64-bit integer with these bits as torch writes it."""
    return constant - (1 << 64) if constant >> 63 else constant


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)
_RANDOM_BITS = 40
_BELOW_ONE = 1 - 2**-24
"""The largest float32 below 1."""


@dataclass(frozen=True)
class Repetition:
    """What makes tokens that were already written less likely."""

    seen: Bool[Tensor, "rows vocab"]
    penalty: Float[Tensor, " rows"]
    """Divides positive and multiplies negative logits; 1 is off."""


@dataclass(frozen=True)
class Choice:
    """The next token of each row."""

    token: Int[Tensor, " rows"]
    altered: Bool[Tensor, " rows"]
    """The model chose, but under a bias, or because its first choice was suppressed."""
    logprob: Float[Tensor, " rows"]
    """Under the model's own distribution at temperature 1."""


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
    uniform = bits.float().add_(0.5).mul_(2.0**-_RANDOM_BITS).clamp_(max=_BELOW_ONE)
    return uniform.neg_().log1p_().neg_().log_().neg_()


def choose(
    logits: Float[Tensor, "rows vocab"],
    noise: Float[Tensor, "rows vocab"],
    *,
    temperature: Float[Tensor, " rows"],
    top_p: Float[Tensor, " rows"],
    decision: BatchDecision,
    repetition: Repetition | None = None,
) -> Choice:
    """Choose a token for each row: the forced one, else the sampler's.

    A row draws as if unconstrained. Only where that draw is suppressed, or a bias holds, does it
    draw again under the constraints; so every other token comes from the model's own distribution.

    Args:
        logits: The model's, untouched.
        noise: From `gumbel`.
        temperature: 0 takes the likeliest token.
        top_p: Share of probability that is kept, likeliest tokens first; 1 keeps all.
        decision: What the controller says of these rows.
        repetition: Leave out where every penalty is 1.
    """
    logits = logits.float()
    scores = logits if repetition is None else _penalised(logits, repetition)
    token = _draw(scores, noise, temperature, top_p)
    altered = torch.zeros_like(token, dtype=torch.bool)
    if len(decision.suppressed_rows) or len(decision.bias_rows):
        altered = _draw_again(token, logits, scores, noise, temperature, top_p, decision)
    forced = torch.as_tensor(decision.forced).to(token)
    token = torch.where(forced >= 0, forced, token)
    return Choice(token, altered, token_logprob(logits, token))


def _draw_again(
    token: Int[Tensor, " rows"],
    logits: Float[Tensor, "rows vocab"],
    scores: Float[Tensor, "rows vocab"],
    noise: Float[Tensor, "rows vocab"],
    temperature: Float[Tensor, " rows"],
    top_p: Float[Tensor, " rows"],
    decision: BatchDecision,
) -> Bool[Tensor, " rows"]:
    """Draw under the constraints where they matter, into `token`, and return where that is."""
    suppressed = _pairs(decision.suppressed_rows, decision.suppressed_ids, logits)
    biased = _pairs(decision.bias_rows, decision.bias_ids, logits)
    altered = torch.zeros_like(token, dtype=torch.bool)
    altered[suppressed[0][token[suppressed[0]] == suppressed[1]]] = True
    altered[biased[0]] = True
    again = altered.nonzero().squeeze(1)
    if len(again):
        held = scores.clone()
        held[biased] += torch.as_tensor(decision.bias_values).to(held)
        held[suppressed] = -torch.inf
        token[again] = _draw(held[again], noise[again], temperature[again], top_p[again])
    return altered


def token_logprob(
    logits: Float[Tensor, "rows vocab"], token: Int[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    """Return each token's log-probability under softmax(logits)."""
    logits = logits.float()
    return logits.gather(1, token.unsqueeze(1)).squeeze(1) - logits.logsumexp(1)


def _draw(
    scores: Float[Tensor, "rows vocab"],
    noise: Float[Tensor, "rows vocab"],
    temperature: Float[Tensor, " rows"],
    top_p: Float[Tensor, " rows"],
) -> Int[Tensor, " rows"]:
    greedy = (temperature == 0).unsqueeze(1)
    scaled = scores / torch.where(greedy, 1.0, temperature.unsqueeze(1))
    if bool((top_p < 1).any()):
        scaled = _nucleus(scaled, top_p.unsqueeze(1))
    return (scaled + noise.masked_fill(greedy, 0.0)).argmax(1)


def _nucleus(
    scaled: Float[Tensor, "rows vocab"], top_p: Float[Tensor, "rows 1"]
) -> Float[Tensor, "rows vocab"]:
    """Rule out what lies behind the likeliest tokens that together reach `top_p`."""
    probability, order = scaled.softmax(1).sort(dim=1, descending=True, stable=True)
    before = probability.cumsum(1) - probability
    # The sum of all may round to a little above 1, and a row with 1 keeps everything.
    outside = (before >= top_p) & (top_p < 1)
    outside[:, 0] = False
    return scaled.masked_fill(torch.zeros_like(outside).scatter(1, order, outside), -torch.inf)


def _penalised(
    logits: Float[Tensor, "rows vocab"], repetition: Repetition
) -> Float[Tensor, "rows vocab"]:
    penalty = repetition.penalty.unsqueeze(1)
    less_likely = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(repetition.seen, less_likely, logits)


def _pairs(
    rows: Ints, ids: Ints, like: Float[Tensor, "rows vocab"]
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    device = like.device
    return torch.as_tensor(rows, device=device), torch.as_tensor(ids, device=device)


def _shifted(bits: Int[Tensor, "..."], by: int) -> Int[Tensor, "..."]:
    """Return the bits moved right with zeros moved in; torch's own shift repeats the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _mix(bits: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Return the finaliser of splitmix64: every input bit flips about half of the output's."""
    bits = (bits ^ _shifted(bits, 30)) * _MIX_1
    bits = (bits ^ _shifted(bits, 27)) * _MIX_2
    return bits ^ _shifted(bits, 31)
