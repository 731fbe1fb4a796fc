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


def layer_rows(output: LayerOutput, scale: BudgetScale) -> dict[str, Float[Tensor, " batch"]]:
    """Return a figure for each row by event name; budget variance in tokens^2 and of raw.

    Agreement and variances are absent where no expert ran.
    """
    found = {
        "metacog/alpha/min": output.alpha.amin(dim=-1),
        "metacog/alpha/mean": output.alpha.mean(dim=-1),
        "metacog/alpha/max": output.alpha.amax(dim=-1),
        "metacog/alpha/entropy": alpha_entropy(output.alpha),
    }
    if output.per_layer:
        raw = output.per_layer["budget_raw_pl"]
        found["metacog/plan_agreement"] = plan_agreement(
            output.plan_logits, output.per_layer["plan_logits_pl"]
        )
        found["metacog/budget_variance"] = budget_variance(scale.tokens(raw))
        found["metacog/budget_raw_variance"] = budget_variance(raw)
    return found
