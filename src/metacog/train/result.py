"""What a pass gives the loop, and what the passes of a step give together, over all processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from metacog.losses.combine import LossName, accumulate, loss_values
from metacog.losses.report import LossReport, Tally, means, merged
from metacog.train.processes import Processes

Counts = Mapping[LossName, Tensor]
"""Labels of each loss in a whole optimizer step."""


@dataclass(frozen=True)
class StepResult:
    """What one forward pass gives the loop."""

    loss: Float[Tensor, ""]
    """What this pass adds to the loss of the whole step, with its gradient."""
    reports: Mapping[LossName, LossReport]
    weights: Mapping[LossName, float]
    tokens: int = 0
    """That were learned from; 0 where a pass reads kept states alone."""
    points: int = 0
    """Places of kept states that were learned from."""
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    """Figures beside the losses, by event name."""
    replies: Mapping[str, Sequence[object]] = field(default_factory=dict)
    """Figures of every reply that was rolled out, by name; logged at each step."""

    @property
    def metrics(self) -> dict[str, float]:
        """The means of all losses and figures by event name; what has no label is absent."""
        return {**loss_values(self.reports, self.weights), **means(self.tallies)}

    def __add__(self, other: "StepResult") -> "StepResult":
        """Return both passes as one, without gradients."""
        return StepResult(
            self.loss.detach() + other.loss.detach(),
            accumulate(self.reports, other.reports),
            {**self.weights, **other.weights},
            self.tokens + other.tokens,
            self.points + other.points,
            merged(self.tallies, other.tallies),
            {**self.replies, **other.replies},
        )


def over_processes(mine: StepResult, processes: Processes) -> StepResult:
    """Return the results that all processes have of one step as one, without gradients."""
    if processes.size == 1:
        return mine
    first, *others = (
        replace(_read(told), weights=mine.weights) for told in processes.gather(_told(mine))
    )
    for other in others:
        replies = {name: [*first.replies[name], *rows] for name, rows in other.replies.items()}
        first = replace(first + other, replies=replies)
    return first


def _told(result: StepResult) -> dict[str, Any]:
    """Return what a result counts, as JSON values."""
    return {
        "loss": float(result.loss),
        "reports": {
            name: [float(r.total), float(r.count), _pairs(r.metrics)]
            for name, r in result.reports.items()
        },
        "tokens": result.tokens,
        "points": result.points,
        "tallies": _pairs(result.tallies),
        "replies": {name: list(rows) for name, rows in result.replies.items()},
    }


def _read(told: Mapping[str, Any]) -> StepResult:
    return StepResult(
        torch.tensor(told["loss"]),
        {
            LossName(name): LossReport(torch.tensor(total), torch.tensor(count), _tallies(metrics))
            for name, (total, count, metrics) in told["reports"].items()
        },
        {},
        told["tokens"],
        told["points"],
        _tallies(told["tallies"]),
        told["replies"],
    )


def _pairs(tallies: Mapping[str, Tally]) -> dict[str, list[float]]:
    return {name: [float(tally.total), float(tally.count)] for name, tally in tallies.items()}


def _tallies(pairs: Mapping[str, Sequence[float]]) -> dict[str, Tally]:
    return {name: Tally(torch.tensor(t), torch.tensor(c)) for name, (t, c) in pairs.items()}
