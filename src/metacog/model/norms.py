"""Lengths of states, in few operations and in fp32."""

import torch
from jaxtyping import Float
from torch import Tensor


def norm_of(states: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch"]:
    """Return the Euclidean length of each state."""
    length: Tensor = torch.linalg.vector_norm(states, dim=-1, dtype=torch.float32)
    return length


def inverse_rms(
    states: Float[Tensor, "*batch hidden"],
    epsilon: Float[Tensor, ""],
    length: Float[Tensor, "*batch"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Return 1 / sqrt(mean(h^2) + epsilon), from the states' length where that is known already."""
    length = norm_of(states) if length is None else length
    return torch.addcmul(epsilon, length, length, value=1 / states.shape[-1]).rsqrt()
