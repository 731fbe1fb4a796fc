"""The learned mixture of blocks: which of them to trust for this prompt."""

import math
from typing import NamedTuple, assert_never

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metacog.model.shape import Aggregation


class Aggregate(NamedTuple):
    """The weighted mean of the blocks' projections."""

    g: Float[Tensor, "batch proj"]
    alpha: Float[Tensor, "batch layers"]
    """Weight of each block; a row sums to 1."""


class LayerAggregator(nn.Module):
    """Weighs the blocks' projections into one state.

        agg = attn    alpha = softmax_l(v . tanh(U z_l))
        agg = mean    alpha_l = 1 / L
        g = sum_l alpha_l z_l

    Without `linked_all_layers` all weight lies on the last block. Only attention over linked
    blocks has parameters.
    """

    def __init__(
        self, proj: int, agg: Aggregation = "attn", *, linked_all_layers: bool = True
    ) -> None:
        super().__init__()
        self.agg = agg
        self.linked_all_layers = linked_all_layers
        if self.has_attention:
            self.key = nn.Linear(proj, proj, bias=False)
            self.query = nn.Linear(proj, 1, bias=False)
            nn.init.normal_(self.key.weight, std=1 / math.sqrt(proj))
            nn.init.normal_(self.query.weight, std=0.1 / math.sqrt(proj))

    @property
    def has_attention(self) -> bool:
        """Whether blocks are weighed by what they say."""
        return self.agg == "attn" and self.linked_all_layers

    def forward(self, z: Float[Tensor, "batch layers proj"]) -> Aggregate:
        """Return g and alpha."""
        alpha = self._weights(z)
        return Aggregate(torch.bmm(alpha.unsqueeze(1), z).squeeze(1), alpha)

    def _weights(self, z: Float[Tensor, "batch layers proj"]) -> Float[Tensor, "batch layers"]:
        batch, num_layers, _ = z.shape
        if not self.linked_all_layers:
            last = torch.full((batch,), num_layers - 1, device=z.device)
            return nn.functional.one_hot(last, num_layers).to(z.dtype)
        match self.agg:
            case "attn":
                score: Tensor = self.query(torch.tanh(self.key(z)))
                return score.squeeze(-1).softmax(dim=-1)
            case "mean":
                return z.new_full((batch, num_layers), 1 / num_layers)
            case _:
                assert_never(self.agg)
