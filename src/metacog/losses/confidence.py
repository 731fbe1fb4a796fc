"""Teaches the confidence heads how likely a right answer is at the enforced budget."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from metacog.losses.report import LossReport, labelled, over_known, taught, with_experts


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
    return over_known(losses, known, {"metacog/confidence/brier": squares})


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
