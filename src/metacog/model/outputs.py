"""What the layer returns: raw tensors, before calibration."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class LayerOutput:
    """A reading of a batch as the heads give it: what losses and the gate take."""

    plan_logits: Float[Tensor, "batch plans"]
    budget_raw: Float[Tensor, "batch 1"]
    """Before the budget scale."""
    budget: Float[Tensor, " batch"]
    """Tokens on the budget scale, neither calibrated nor rounded."""
    conf_raw: Float[Tensor, "batch 1"]
    """Logit of ending right at the budget that was named, else at `budget`."""
    g: Float[Tensor, "batch proj"]
    alpha: Float[Tensor, "batch layers"]
    """Weight of each block of the base; zero where a block is not read."""
    per_layer: dict[str, Tensor]
    """One row a block that is read: `plan_logits_pl` [batch, blocks, plans], `budget_raw_pl` and
    `conf_raw_pl` [batch, blocks, 1], `alpha` [batch, blocks]. Empty without telemetry."""


@dataclass(frozen=True)
class RereadOutput:
    """A re-reading of a batch as the heads give it."""

    needed_raw: Float[Tensor, "batch 1"]
    """Before the scale of tokens."""
    needed: Float[Tensor, " batch"]
    """THINK tokens still needed, from 0 to B_max."""
    ready_raw: Float[Tensor, "batch 1"]
    """Logit of being right if THINK closed now."""
    gain_raw: Float[Tensor, "batch 1"]
    """Logit of going on to the natural end making right what closing now would leave wrong."""
    alpha: Float[Tensor, "batch layers"]
    """Weight of each block of the base; zero where a block is not read."""
    per_layer: dict[str, Tensor]
    """One row a block that is read: `needed_raw_pl`, `needed_pl` (tokens), `ready_raw_pl` and
    `gain_raw_pl` [batch, blocks, 1], `alpha` [batch, blocks]. Empty without telemetry."""
