"""Keeps the experts' budgets from drifting apart."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from metacog.losses.report import LossReport, over_known


def variance_loss(
    per_layer: Mapping[str, Tensor], rows: Float[Tensor, "batch _"], *, var_reg: float
) -> LossReport:
    """Return the variance over layers of the experts' raw budgets.

        L = sum over rows of mean_l (r_l - mean_l r_l)^2        r = budget_raw_pl

    Raw budgets, since the weight then means the same for every range of tokens.

    Args:
        per_layer: The layer's outputs of each expert.
        rows: Any output of the global heads: where no expert ran, it gives the report its place.
        var_reg: The weight that the report will get; not multiplied in here.

    Raises:
        ValueError: If the weight is positive and no expert ran.
    """
    require_experts(per_layer, var_reg, "metacog.var_reg")
    if not per_layer:
        return no_label(rows)
    spread = per_layer["budget_raw_pl"].squeeze(-1).var(dim=-1, correction=0)
    every = torch.ones_like(spread, dtype=torch.bool)
    return over_known(spread, every, {"metacog/budget_raw_variance": spread})


def require_experts(per_layer: Mapping[str, Tensor], weight: float, key: str) -> None:
    """Refuse to regularise experts that did not run.

    Raises:
        ValueError: If the weight is positive and `per_layer` empty.
    """
    if weight > 0 and not per_layer:
        raise ValueError(
            f"{key} is {weight}, which wanted the experts' outputs, got an empty per_layer. "
            f"Read the layer with telemetry, or set {key} to 0."
        )


def no_label(rows: Float[Tensor, "batch _"]) -> LossReport:
    """Return a report of zero over no label, in the graph of `rows`."""
    return LossReport((rows * 0).sum(), rows.new_zeros(()))
