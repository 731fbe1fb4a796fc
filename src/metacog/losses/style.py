"""Keeps plans from collapsing into one: a bonus for entropy."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from metacog.losses.report import LossReport, over_known
from metacog.losses.variance import no_label, require_experts


def style_loss(
    plan_logits: Float[Tensor, "batch plans"],
    per_layer: Mapping[str, Tensor],
    *,
    style_entropy: float,
) -> LossReport:
    """Return the negative entropy of the plan distributions, in nats.

        L = -sum over rows of (H(softmax(plan_logits)) + mean_l H(softmax(plan_logits_pl)))

    The two entropies are metrics of their own. Minimising L spreads the plans.

    Args:
        plan_logits: Of the global heads.
        per_layer: The layer's outputs of each expert.
        style_entropy: The weight that the report will get; not multiplied in here.

    Raises:
        ValueError: If the weight is positive and no expert ran.
    """
    require_experts(per_layer, style_entropy, "losses.style_entropy")
    if not per_layer:
        return no_label(plan_logits)
    own = entropy(plan_logits)
    experts = entropy(per_layer["plan_logits_pl"]).mean(dim=-1)
    every = torch.ones_like(own, dtype=torch.bool)
    metrics = {"train/plan_entropy": own, "train/plan_entropy_per_layer": experts}
    return over_known(-(own + experts), every, metrics)


def entropy(logits: Float[Tensor, "*rows plans"]) -> Float[Tensor, "*rows"]:
    """Return -sum_k p_k log p_k of p = softmax(logits), in nats."""
    log_p = logits.log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)
