"""Teaches re-readings what is still needed, whether THINK could close, and what going on can win."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import huber_loss

from metacog.losses.confidence import probability_terms
from metacog.losses.report import LossReport, labelled, over_known, taught, with_experts


def needed_loss(
    needed: Float[Tensor, " batch"],
    target: Float[Tensor, " batch"],
    known: Bool[Tensor, " batch"],
    *,
    delta: float = 1.0,
    experts: Float[Tensor, "batch layers 1"] | None = None,
    per_layer_weight: float = 0.0,
) -> LossReport:
    """Return the Huber distance between tokens still needed, as said and as measured.

        L = sum over known of huber_delta(log(1 + needed) - log(1 + target))
            + per_layer_weight * mean_l of the same

    The metric is the absolute error in tokens. A row is one point of a trace.

    Args:
        needed: The re-reading's tokens still needed.
        target: Tokens from the point to the shortest prefix from which the answer stays right.
        known: Points that have such a prefix.
        delta: Distance in log tokens from which on the loss is linear.
        experts: The experts' `needed_pl`, in tokens.
        per_layer_weight: Weight of the mean of their losses.
    """
    label = labelled(target, known)
    if not bool((label >= 0).all()):
        raise ValueError(
            f"Tokens still needed wanted labels of zero or more, got {target[known].tolist()}. "
            "A point past the need has a label of 0."
        )
    opinions = taught(experts, per_layer_weight)
    own = _huber(needed.unsqueeze(-1), label, delta)
    theirs = None
    if opinions is not None:
        theirs = _huber(opinions, label.unsqueeze(1).expand_as(opinions), delta)
    error = (needed - label.squeeze(-1)).abs()
    losses = with_experts(own, theirs, per_layer_weight)
    return over_known(losses, known, {"train/needed_mae": error})


def ready_loss(
    ready_raw: Float[Tensor, "batch 1"],
    ready: Float[Tensor, " batch"],
    known: Bool[Tensor, " batch"],
    *,
    experts: Float[Tensor, "batch layers 1"] | None = None,
    per_layer_weight: float = 0.0,
) -> LossReport:
    """Return the binary cross-entropy of being right if THINK closed here, and the Brier score.

        L = sum over known of -(y log p + (1 - y) log(1 - p)) + per_layer_weight * mean_l of the same

    Args:
        ready_raw: Logits of the re-reading.
        ready: From 0 to 1: whether, or how often, the forced close was answered right.
        known: Points at which a close was tried.
        experts: The experts' `ready_raw_pl`.
        per_layer_weight: Weight of the mean of their losses.
    """
    losses, squares = probability_terms(ready_raw, ready, known, experts, per_layer_weight)
    return over_known(losses, known, {"train/ready_brier": squares})


def gain_loss(
    gain_raw: Float[Tensor, "batch 1"],
    gain: Float[Tensor, " batch"],
    known: Bool[Tensor, " batch"],
    *,
    experts: Float[Tensor, "batch layers 1"] | None = None,
    per_layer_weight: float = 0.0,
) -> LossReport:
    """Return the binary cross-entropy of what going on can win, and the Brier score.

        y = max(0, P(right at the natural end) - P(right if THINK closed here))
        L = sum over known of -(y log p + (1 - y) log(1 - p)) + per_layer_weight * mean_l of the same

    Closing where p is small costs little accuracy, whether the answer is right already or never
    will be: readiness alone cannot tell the second from a trace that is not there yet.

    Args:
        gain_raw: Logits of the re-reading.
        gain: y, from 0 to 1.
        known: Points of traces that ended by themselves.
        experts: The experts' `gain_raw_pl`.
        per_layer_weight: Weight of the mean of their losses.
    """
    losses, squares = probability_terms(gain_raw, gain, known, experts, per_layer_weight)
    return over_known(losses, known, {"train/gain_brier": squares})


def _huber(tokens: Tensor, target: Tensor, delta: float) -> Tensor:
    return huber_loss(torch.log1p(tokens), torch.log1p(target), reduction="none", delta=delta)
