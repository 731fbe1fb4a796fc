"""Teaches the budget heads how many THINK tokens a prompt needs, or used."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metacog.losses.report import LossReport, labelled, over_known, taught, with_experts


@dataclass(frozen=True)
class Spending:
    """What was predicted and what was spent: the numbers behind `train/budget_mse`."""

    predicted: Float[Tensor, " batch"]
    """Budget in tokens, as the layer said it."""
    used: Float[Tensor, " batch"]
    """THINK tokens of the reply."""
    known: Bool[Tensor, " batch"]
    """Whether there was a reply."""
    max_tokens: int
    """B_max, in tokens."""


def budget_need(
    budget_raw: Float[Tensor, "batch 1"],
    need: Float[Tensor, " batch"],
    known: Bool[Tensor, " batch"],
    censored: Bool[Tensor, " batch"],
    spending: Spending,
    *,
    quantile: float | None = None,
    experts: Float[Tensor, "batch layers 1"] | None = None,
    per_layer_weight: float = 0.0,
) -> LossReport:
    """Return the distance between the predicted budget and need, on the budget scale.

        f = sigmoid(budget_raw);  e = need - f           both as fractions of the scale, in [0, 1]
        squared      e^2                                  the mean of need
        pinball      max(q e, (q - 1) e)                  its q-quantile (Koenker, Bassett 1978)
        censored     the same of max(e, 0)

    A rollout that was cut says only that need is at least what it used, so it never pulls a
    prediction down. Quantiles commute with the scale: the fitted one is that of tokens too.

    Args:
        budget_raw: The budget head's outputs, before the scale.
        need: `BudgetScale.fraction` of the tokens needed, or of those used where censored.
        known: Rows that have a need.
        censored: Rows whose reply was cut by its budget.
        spending: What `train/budget_mse` is measured on.
        quantile: Share of prompts that the prediction shall cover, or None for the mean.
        experts: The experts' `budget_raw_pl`.
        per_layer_weight: Weight of the mean of their losses.
    """
    if quantile is not None and not 0 < quantile < 1:
        raise ValueError(
            f"A quantile wanted a share between 0 and 1, got {quantile}. Change budget.quantile."
        )
    target, cut = labelled(need, known), censored.unsqueeze(-1)
    opinions = taught(experts, per_layer_weight)
    own = _distance(target - torch.sigmoid(budget_raw), cut, quantile)
    theirs = None
    if opinions is not None:
        error = target.unsqueeze(1) - torch.sigmoid(opinions)
        theirs = _distance(error, cut.unsqueeze(1), quantile)
    report = over_known(with_experts(own, theirs, per_layer_weight), known)
    return LossReport(report.total, report.count, budget_mse(spending).metrics)


def budget_used(
    spending: Spending,
    *,
    experts: Float[Tensor, "batch layers 1"] | None = None,
    per_layer_weight: float = 0.0,
) -> LossReport:
    """Return the squared error between predicted budget and THINK tokens used.

        L = sum over known of ((predicted - used) / B_max)^2 + per_layer_weight * mean_l of the same

    Under its own cap a reply never uses more than was predicted, so on such replies this only
    pulls the budget down; `budget_need` does not.

    Args:
        spending: Predictions, with their gradient, and what was used.
        experts: The experts' budgets in tokens.
        per_layer_weight: Weight of the mean of their losses.
    """
    used = labelled(spending.used, spending.known)
    opinions = taught(experts, per_layer_weight)
    own = ((spending.predicted.unsqueeze(-1) - used) / spending.max_tokens).square()
    theirs = None
    if opinions is not None:
        theirs = ((opinions - used.unsqueeze(1)) / spending.max_tokens).square()
    report = over_known(with_experts(own, theirs, per_layer_weight), spending.known)
    return LossReport(report.total, report.count, budget_mse(spending).metrics)


def budget_mse(spending: Spending) -> LossReport:
    """Return `train/budget_mse` alone: the squared error in tokens over B_max^2, without experts."""
    used = labelled(spending.used, spending.known).squeeze(-1)
    squares = ((spending.predicted.detach() - used) / spending.max_tokens).square()
    return over_known(squares, spending.known, {"train/budget_mse": squares})


def _distance(error: Tensor, censored: Tensor, quantile: float | None) -> Tensor:
    """Return the loss of each error; `censored` broadcasts against it."""
    known_part = torch.where(censored, error.clamp(min=0), error)
    if quantile is None:
        return known_part.square()
    return torch.maximum(quantile * known_part, (quantile - 1) * known_part)
