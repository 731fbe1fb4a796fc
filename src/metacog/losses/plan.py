"""Teaches the plan heads the plan that answers right for the fewest tokens."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from metacog.losses.report import LossReport, over_known, taught, with_experts


def plan_loss(
    plan_logits: Float[Tensor, "batch plans"],
    plan: Int[Tensor, " batch"],
    known: Bool[Tensor, " batch"],
    *,
    experts: Float[Tensor, "batch layers plans"] | None = None,
    per_layer_weight: float = 0.0,
) -> LossReport:
    """Return the cross-entropy of the labelled plan, in nats.

        L = sum over known of -log softmax(plan_logits)[plan] + per_layer_weight * mean_l of the same

    Where a row has no label, `plan` may hold anything.
    """
    labels = torch.where(known, plan, 0)
    opinions = taught(experts, per_layer_weight)
    own = cross_entropy(plan_logits, labels, reduction="none").unsqueeze(-1)
    theirs = None if opinions is None else _per_expert(opinions, labels)
    right = (plan_logits.argmax(dim=-1) == labels).to(plan_logits.dtype)
    losses = with_experts(own, theirs, per_layer_weight)
    return over_known(losses, known, {"train/plan_accuracy": right})


def plan_policy_loss(
    plan_logits: Float[Tensor, "batch plans"],
    plan: Int[Tensor, " batch"],
    advantage: Float[Tensor, " batch"],
    *,
    experts: Float[Tensor, "batch layers plans"] | None = None,
    per_layer_weight: float = 0.0,
) -> LossReport:
    """Return the policy loss of plans that were sampled, one for each reply.

        L = sum of -A log softmax(plan_logits)[plan] + per_layer_weight * mean_l of the same

    (Williams 1992.) A plan becomes likelier where its reply did better than its group.

    Args:
        plan_logits: Of the global heads.
        plan: Index of each reply's plan.
        advantage: Of each reply.
        experts: The experts' `plan_logits_pl`.
        per_layer_weight: Weight of the mean of their losses.
    """
    opinions = taught(experts, per_layer_weight)
    own = advantage.unsqueeze(-1) * cross_entropy(plan_logits, plan, reduction="none").unsqueeze(-1)
    theirs = None
    if opinions is not None:
        theirs = advantage.view(-1, 1, 1) * _per_expert(opinions, plan)
    losses = with_experts(own, theirs, per_layer_weight)
    return over_known(losses, torch.ones_like(advantage, dtype=torch.bool))


def _per_expert(
    logits: Float[Tensor, "batch layers plans"], labels: Int[Tensor, " batch"]
) -> Float[Tensor, "batch layers 1"]:
    every = labels.unsqueeze(-1).expand(-1, logits.shape[1])
    return cross_entropy(logits.transpose(1, 2), every, reduction="none").unsqueeze(-1)
