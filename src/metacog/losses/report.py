"""What every loss returns: sums and counts, so that adding up micro-batches changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Tally:
    """A sum over labels and how many there were; their mean is missing where there were none."""

    total: Float[Tensor, ""]
    count: Float[Tensor, ""]

    @classmethod
    def of(cls, values: Float[Tensor, "*rows"]) -> "Tally":
        """Return the tally of values that are all known."""
        return cls(values.detach().sum(), torch.tensor(float(values.numel())))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.total + other.total, self.count + other.count)

    def mean(self) -> float | None:
        """Return the mean, or None without a label."""
        return (self.total / self.count).item() if self.count.item() else None


@dataclass(frozen=True)
class LossReport:
    """A loss as its sum over labels, their count, and metrics by event name.

    Reports of micro-batches are added, those of processes too: the mean comes last, over all. A
    report without a label has a total of zero with zero gradients, and no metric.
    """

    total: Float[Tensor, ""]
    """Sum over labels, with its gradient."""
    count: Float[Tensor, ""]
    metrics: Mapping[str, Tally] = field(default_factory=dict)
    """Without gradients."""

    def __add__(self, other: "LossReport") -> "LossReport":
        metrics = merged(self.metrics, other.metrics)
        return LossReport(self.total + other.total, self.count + other.count, metrics)

    def mean(self, count: Float[Tensor, ""] | None = None) -> Float[Tensor, ""]:
        """Return total / count with its gradient; zero where the count is zero.

        Args:
            count: Labels of the whole optimizer step, over all micro-batches and processes; by
                default this report's own.
        """
        return self.total / (self.count if count is None else count).clamp(min=1)

    def values(self) -> dict[str, float]:
        """Return the mean of every metric that has a label; the others are absent."""
        return means(self.metrics)


def over_known(
    losses: Float[Tensor, " batch"],
    known: Bool[Tensor, " batch"],
    metrics: Mapping[str, Float[Tensor, " batch"]] | None = None,
) -> LossReport:
    """Return the sum of the losses of the rows whose label is known, and of metrics likewise.

    A row without a label is a term of weight zero: it keeps its place in the graph.
    """
    weight = known.to(losses.dtype)
    count = weight.sum()
    tallies = {
        name: Tally((value.detach() * weight).sum(), count)
        for name, value in (metrics or {}).items()
    }
    return LossReport((losses * weight).sum(), count, tallies)


def labelled(
    labels: Float[Tensor, " batch"], known: Bool[Tensor, " batch"], stand_in: float = 0.0
) -> Float[Tensor, "batch 1"]:
    """Return labels as a column, with a harmless number where there is none.

    A missing label is often NaN, and NaN times a weight of zero is NaN.
    """
    return torch.where(known, labels, stand_in).unsqueeze(-1)


def with_experts(
    own: Float[Tensor, "batch 1"],
    experts: Float[Tensor, "batch layers 1"] | None,
    per_layer_weight: float,
) -> Float[Tensor, " batch"]:
    """Return the global heads' loss plus `per_layer_weight` times the mean of the experts'.

    loss = own + per_layer_weight * mean_l experts_l
    """
    if experts is None:
        return own.squeeze(-1)
    return own.squeeze(-1) + per_layer_weight * experts.squeeze(-1).mean(dim=-1)


def taught(experts: Tensor | None, per_layer_weight: float) -> Tensor | None:
    """Return the experts' outputs where they are to learn, or None at a weight of zero.

    Raises:
        ValueError: If they are to learn and there are none.
    """
    if per_layer_weight == 0:
        return None
    if experts is None:
        raise ValueError(
            f"per_layer_weight is {per_layer_weight}, which wanted the experts' outputs, got none. "
            "Read the layer with telemetry, or set metacog.per_layer_weight to 0."
        )
    return experts


def merged(mine: Mapping[str, Tally], theirs: Mapping[str, Tally]) -> dict[str, Tally]:
    """Return the tallies of both sides by name, added up where both have one."""
    names = [*mine, *(name for name in theirs if name not in mine)]
    return {name: _sum(mine, theirs, name) for name in names}


def means(tallies: Mapping[str, Tally]) -> dict[str, float]:
    """Return the mean of every tally that has a label; the others are absent."""
    found = {name: tally.mean() for name, tally in tallies.items()}
    return {name: mean for name, mean in found.items() if mean is not None}


def _sum(mine: Mapping[str, Tally], theirs: Mapping[str, Tally], name: str) -> Tally:
    if name not in mine:
        return theirs[name]
    return mine[name] + theirs[name] if name in theirs else mine[name]
