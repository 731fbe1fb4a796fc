"""Teaches the confidence heads how likely a right answer is at the enforced budget."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from metacog.losses.report import LossReport, labelled, over_known, taught, with_experts

_BINS = 10
RELIABILITY = "reliability/"
"""Begins the name of every figure of the reliability diagram."""


def confidence_loss(
    conf_raw: Float[Tensor, "batch 1"],
    correct: Float[Tensor, " batch"],
    known: Bool[Tensor, " batch"],
    *,
    experts: Float[Tensor, "batch layers 1"] | None = None,
    per_layer_weight: float = 0.0,
) -> LossReport:
    """Return the binary cross-entropy of being right, in nats, and the Brier score.

        L     = sum over known of -(y log p + (1 - y) log(1 - p)) + per_layer_weight * mean_l of the same
        Brier = (p - y)^2           p = sigmoid(conf_raw), global heads only

    Args:
        conf_raw: Logits at the enforced budget.
        correct: 0 or 1, or the share of rollouts that were right.
        known: Rows whose correctness is known.
        experts: The experts' `conf_raw_pl`.
        per_layer_weight: Weight of the mean of their losses.
    """
    losses, squares = probability_terms(conf_raw, correct, known, experts, per_layer_weight)
    chances = conf_raw.sigmoid().squeeze(-1)
    told = {"metacog/confidence/mean": chances, "metacog/confidence/brier": squares}
    return over_known(losses, known, told)


def confidence_figures(
    chances: Float[Tensor, " rows"], right: Float[Tensor, " rows"]
) -> dict[str, float]:
    """Return `metacog/confidence/{ece,auroc}`: figures of many rows, which no step has.

        ECE   = sum over bins of share(bin) |mean p - mean y|       ten bins of equal width
        AUROC = P(p_i > p_j) + P(p_i = p_j) / 2                     i drawn by y, j by 1 - y

    AUROC is absent where all rows are right, or all wrong.

    Args:
        chances: p, from 0 to 1.
        right: y: 0, 1 or a share.
    """
    if not len(chances):
        return {}
    p, y = chances.detach().double(), right.double()
    bins = (p * _BINS).long().clamp(max=_BINS - 1)
    gaps = torch.zeros(_BINS, dtype=torch.double).index_add(0, bins, p - y)
    found = {"metacog/confidence/ece": float(gaps.abs().sum() / len(p))}
    positive, negative = y, 1 - y
    if positive.sum() > 0 and negative.sum() > 0:
        order = (p.unsqueeze(1) > p).double() + 0.5 * (p.unsqueeze(1) == p).double()
        weighed = positive @ order @ negative / (positive.sum() * negative.sum())
        found["metacog/confidence/auroc"] = float(weighed)
    return found


def reliability_figures(
    chances: Float[Tensor, " rows"], right: Float[Tensor, " rows"]
) -> dict[str, float]:
    """Return the reliability diagram, for each of ten bins of equal width that holds a row.

        reliability/share/b = rows of bin b / all rows
        reliability/said/b  = mean p over bin b
        reliability/right/b = mean y over bin b

    Args:
        chances: p, from 0 to 1.
        right: y: 0, 1 or a share.
    """
    p, y = chances.detach().double(), right.double()
    bins = (p * _BINS).long().clamp(max=_BINS - 1)
    found = {}
    for number in bins.unique().tolist():
        mine = bins == number
        found[f"{RELIABILITY}share/{number}"] = float(mine.double().mean())
        found[f"{RELIABILITY}said/{number}"] = float(p[mine].mean())
        found[f"{RELIABILITY}right/{number}"] = float(y[mine].mean())
    return found


def probability_terms(
    logits: Float[Tensor, "batch 1"],
    target: Float[Tensor, " batch"],
    known: Bool[Tensor, " batch"],
    experts: Float[Tensor, "batch layers 1"] | None,
    per_layer_weight: float,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return each row's cross-entropy with its experts' share, and its squared error."""
    label = labelled(target, known)
    refuse_outside_unit(label)
    opinions = taught(experts, per_layer_weight)
    own = binary_cross_entropy_with_logits(logits, label, reduction="none")
    theirs = None
    if opinions is not None:
        every = label.unsqueeze(1).expand_as(opinions)
        theirs = binary_cross_entropy_with_logits(opinions, every, reduction="none")
    squares = (logits.sigmoid() - label).square().squeeze(-1)
    return with_experts(own, theirs, per_layer_weight), squares


def refuse_outside_unit(label: Float[Tensor, "batch 1"]) -> None:
    """Refuse labels that are no probabilities.

    Raises:
        ValueError: If one is below 0, above 1 or NaN.
    """
    if not bool(((label >= 0) & (label <= 1)).all()):
        raise ValueError(
            f"A probability's label wanted a number from 0 to 1, got {label.squeeze(-1).tolist()}. "
            "Mark rows without a label as not known."
        )
