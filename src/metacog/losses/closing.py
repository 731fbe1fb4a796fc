"""Teaches the model when to stop thinking, from what closing at each line end would have led to."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metacog.losses.report import LossReport, over_known

_NEVER = -1e-7
"""The largest log p: a closer that is certain keeps a finite log(1 - p)."""


def closing_loss(
    close_logprob: Float[Tensor, "replies cuts"],
    value: Float[Tensor, "replies cuts"],
    known: Bool[Tensor, "replies cuts"],
) -> LossReport:
    """Return the cost of closing or going on at every cut of a trace, against the better of the two.

        p_i = pi(closer | first i lines)          V_i = value of closing there, known exactly
        C_i = p_{i+1} V_{i+1} + (1 - p_{i+1}) C_{i+1};   C = V at the trace's own end
        A_i = V_i - C_i
        L   = sum over cuts before the end of -max(A_i, 0) log p_i - max(-A_i, 0) log(1 - p_i)

    Each choice is a classification whose error costs |A| (Elkan 2001, section 1). A policy gradient
    would weigh it by p itself, and a base that never closes in the middle of a thought would never
    learn to: there p is 1e-7, and no sample shows what closing is worth. What came later in the
    trace stands for going on. A and the chances inside C are constants.

    Metrics are the means of A and of what the likelier choice loses against the better one.

    Args:
        close_logprob: Log-probability of the closer's first id at each cut, at temperature 1.
        value: Expected reward when closed at each cut.
        known: Cuts that there are; those of a row come first and end with the trace's own end.
    """
    last = known.sum(dim=1, keepdim=True) - 1
    gain = closing_gains(close_logprob.detach().exp(), value, last)
    logp = close_logprob.clamp(max=_NEVER)
    others = torch.log(-torch.expm1(logp))
    losses = -gain.clamp(min=0) * logp - (-gain).clamp(min=0) * others
    is_worse = (logp > others) != (gain > 0)
    choices = torch.arange(value.shape[1]) < last
    tallies = {
        "rl/closing_gain": gain.flatten(),
        "rl/closing_regret": (gain.abs() * is_worse).flatten(),
    }
    return over_known(losses.flatten(), choices.flatten(), tallies)


def closing_gains(
    p: Float[Tensor, "replies cuts"],
    value: Float[Tensor, "replies cuts"],
    last: Tensor,
) -> Float[Tensor, "replies cuts"]:
    """Return A = V - C at every cut before the last one of its row, and 0 elsewhere."""
    gains = torch.zeros_like(value)
    ahead = value.gather(1, last.clamp(min=0)).squeeze(1)
    for cut in range(value.shape[1] - 1, -1, -1):
        before = cut < last.squeeze(1)
        gains[:, cut] = torch.where(before, value[:, cut] - ahead, 0)
        mixed = p[:, cut] * value[:, cut] + (1 - p[:, cut]) * ahead
        ahead = torch.where(before, mixed, ahead)
    return gains
