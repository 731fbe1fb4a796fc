"""The shared projection of every block's hidden state."""

import math
from enum import IntEnum

import torch
from jaxtyping import Float
from torch import Tensor, nn

TINY = 1e-12
"""Added to a mean square, so that a state of zeros stays zeros."""


class Phase(IntEnum):
    """Where the layer reads; the value indexes the phase embedding."""

    PROMPT = 0
    """At the end of the prompt: a reading."""
    THINK = 1
    """Inside THINK: a re-reading."""


class PerLayerTrunk(nn.Module):
    """Projects each block's state by one 2-layer MLP that all blocks share.

        x_l = h_l / rms(h_l)                         h_l detached
        z_l = W2 silu(W1 x_l + e_l + p_phase)        H -> D -> D

    `e_l` tells blocks apart and `p_phase` readings from re-readings; both are learned. States are
    detached here, so no metacognitive loss reaches the base however they were tapped.
    """

    def __init__(self, hidden: int, proj: int, num_layers: int) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden, proj, bias=False)
        self.outer = nn.Linear(proj, proj, bias=False)
        self.layer_embedding = nn.Parameter(torch.empty(num_layers, proj))
        self.phase_embedding = nn.Parameter(torch.empty(len(Phase), proj))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights anew, such that z has a root mean square of about 1."""
        hidden, proj = self.inner.in_features, self.outer.in_features
        nn.init.normal_(self.inner.weight, std=1 / math.sqrt(hidden))
        nn.init.normal_(self.outer.weight, std=1.7 / math.sqrt(proj))
        nn.init.normal_(self.layer_embedding, std=0.1)
        nn.init.normal_(self.phase_embedding, std=0.1)

    def forward(
        self, states: Float[Tensor, "batch layers hidden"], phase: Phase = Phase.PROMPT
    ) -> Float[Tensor, "batch layers proj"]:
        """Return z; the states' dtype gives way to the trunk's own, fp32."""
        h = states.detach().to(self.inner.weight.dtype)
        x = h * torch.rsqrt(h.square().mean(dim=-1, keepdim=True) + TINY)
        place = self.layer_embedding + self.phase_embedding[phase]
        projected: Tensor = self.outer(nn.functional.silu(self.inner(x) + place))
        return projected
