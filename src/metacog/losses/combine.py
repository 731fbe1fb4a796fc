"""One number to descend, made of all losses; and their values by event name."""

from collections.abc import Mapping
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from metacog.losses.report import LossReport, Tally


class LossName(StrEnum):
    """The losses of a run; each is logged as `train/loss_<name>`."""

    ANSWER = "answer"
    """Cross-entropy on THINK and ANSWER."""
    POLICY = "policy"
    """The policy loss of practice."""
    CLOSING = "closing"
    """Practice: closing THINK at each line end, or going on."""
    PLAN = "plan"
    BUDGET = "budget"
    CONFIDENCE = "confidence"
    NEEDED = "needed"
    """Re-readings: tokens still needed."""
    READY = "ready"
    """Re-readings: right if THINK closed now."""
    GAIN = "gain"
    """Re-readings: right if THINK went on to its natural end."""
    VARIANCE = "variance"
    """Spread of the experts' budgets."""
    STYLE = "style"
    """Negative entropy of the plans."""


def combine(
    reports: Mapping[LossName, LossReport],
    weights: Mapping[LossName, float],
    counts: Mapping[LossName, Tensor] | None = None,
) -> Float[Tensor, ""]:
    """Return the weighted sum of the losses, each over the count of its own labels.

        L = sum_i w_i total_i / max(count_i, 1)

    With the counts of the whole optimizer step, the gradients of its micro-batches and processes
    add up to that of one large batch. Where processes average their gradients, multiply by their
    number.

    Args:
        reports: The losses of one forward pass.
        weights: Weight of each of them.
        counts: Labels of each loss in the whole step, or None where this is the whole step.

    Raises:
        ValueError: If there is no report, or one without a weight or, given counts, without one.
    """
    if not reports:
        raise ValueError("A sum of losses wanted at least one report, got none. Name an objective.")
    _require_keys(reports, weights, "weight")
    if counts is not None:
        _require_keys(reports, counts, "count")
    terms = [
        weights[name] * report.mean(None if counts is None else counts[name])
        for name, report in reports.items()
    ]
    return torch.stack(terms).sum()


def accumulate(
    before: Mapping[LossName, LossReport], more: Mapping[LossName, LossReport]
) -> dict[LossName, LossReport]:
    """Return the reports of two forward passes as those of one, without gradients."""
    names = [*before, *(name for name in more if name not in before)]
    return {
        name: _detached([side[name] for side in (before, more) if name in side]) for name in names
    }


def loss_values(
    reports: Mapping[LossName, LossReport], weights: Mapping[LossName, float]
) -> dict[str, float]:
    """Return `train/loss`, `train/loss_<name>` and all metrics; what has no label is absent."""
    _require_keys(reports, weights, "weight")
    found: dict[str, float] = {}
    means = {name: Tally(report.total, report.count).mean() for name, report in reports.items()}
    known = {name: mean for name, mean in means.items() if mean is not None}
    if known:
        found["train/loss"] = sum(weights[name] * mean for name, mean in known.items())
    for name, report in reports.items():
        if name in known:
            found[f"train/loss_{name}"] = known[name]
        found.update(report.values())
    return found


def _detached(reports: list[LossReport]) -> LossReport:
    first, *others = [
        LossReport(report.total.detach(), report.count.detach(), report.metrics)
        for report in reports
    ]
    return first + others[0] if others else first


def _require_keys(
    reports: Mapping[LossName, LossReport], given: Mapping[LossName, object], what: str
) -> None:
    missing = [name.value for name in reports if name not in given]
    if missing:
        raise ValueError(
            f"Each loss wanted a {what}, got none for {', '.join(missing)}. Name one for each."
        )
