"""How the blocks' opinions differ: the layer's own telemetry, as pure functions."""

import torch
from jaxtyping import Float
from torch import Tensor

from metacog.model.outputs import LayerOutput
from metacog.model.scale import BudgetScale


def alpha_entropy(alpha: Float[Tensor, "batch layers"]) -> Float[Tensor, " batch"]:
    """Return -sum_l alpha_l log alpha_l in nats; 0 for one block, log L for all alike."""
    return -torch.xlogy(alpha, alpha).sum(dim=-1) + 0.0


def plan_agreement(
    plan_logits: Float[Tensor, "batch plans"], plan_logits_pl: Float[Tensor, "batch layers plans"]
) -> Float[Tensor, " batch"]:
    """Return the share of experts whose likeliest plan is the global one."""
    same = plan_logits_pl.argmax(dim=-1) == plan_logits.argmax(dim=-1, keepdim=True)
    return same.to(plan_logits.dtype).mean(dim=-1)


def budget_variance(budget_pl: Float[Tensor, "batch layers 1"]) -> Float[Tensor, " batch"]:
    """Return mean_l (B_l - mean_l B_l)^2, in the square of whatever unit came: tokens, or raw."""
    return budget_pl.squeeze(-1).var(dim=-1, correction=0)


def layer_metrics(output: LayerOutput, scale: BudgetScale) -> dict[str, float]:
    """Return the means over a batch by event name; budget variance in tokens^2 and of raw.

    What has no value is absent: everything for an empty batch, and agreement and variances where
    no expert ran.
    """
    if len(output.alpha) == 0:
        return {}
    found = {
        "metacog/alpha/min": output.alpha.min(),
        "metacog/alpha/mean": output.alpha.mean(),
        "metacog/alpha/max": output.alpha.max(),
        "metacog/alpha/entropy": alpha_entropy(output.alpha).mean(),
    }
    if output.per_layer:
        raw = output.per_layer["budget_raw_pl"]
        agreement = plan_agreement(output.plan_logits, output.per_layer["plan_logits_pl"])
        found["metacog/plan_agreement"] = agreement.mean()
        found["metacog/budget_variance"] = budget_variance(scale.tokens(raw)).mean()
        found["metacog/budget_raw_variance"] = budget_variance(raw).mean()
    return {name: value.item() for name, value in found.items()}
