"""Muon in full precision, all matrices of one shape at once.

`torch.optim.Muon` orthogonalises one matrix after another in bfloat16, which processors without
instructions for it compute many times slower than float32.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5
_RMS_OF_ADAMW = 0.2
_SMALLEST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, for weight matrices.

        m <- beta m + (1 - beta) g;   u = (1 - beta) g + beta m            Nesterov's look ahead
        W <- W (1 - lr decay) - lr 0.2 sqrt(max(rows, columns)) orthogonal(u)

    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the factor gives
    updates AdamW's root mean square (Liu et al. 2025, "Muon is scalable for LLM training", 2.2).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for parameter in (p for group in self.param_groups for p in group["params"]):
            if parameter.ndim != 2:
                raise ValueError(
                    f"Muon wanted matrices, got a parameter of shape {tuple(parameter.shape)}. "
                    "Give it to AdamW."
                )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure here
        """Move the matrices that have a gradient."""
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                ahead = torch.stack([self._ahead(p, group["momentum"]) for p in parameters])
                rate = group["lr"] * _RMS_OF_ADAMW * max(shape) ** 0.5
                for parameter, update in zip(parameters, orthogonal(ahead), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update.to(parameter.dtype), alpha=-rate)

    def _ahead(self, parameter: nn.Parameter, momentum: float) -> Float[Tensor, "rows columns"]:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)


def orthogonal(matrices: Float[Tensor, "n rows columns"]) -> Float[Tensor, "n rows columns"]:
    """Return matrices with the same singular vectors and singular values near 1.

    X <- a X + (b X X^T + c (X X^T)^2) X, five times, from X = M / |M|. The values end between 0.7
    and 1.2, which serves as well as 1 (Jordan et al. 2024).
    """
    a, b, c = _NEWTON_SCHULZ
    wide = matrices.float()
    tall = wide.shape[-2] > wide.shape[-1]
    wide = wide.mT if tall else wide
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=_SMALLEST_NORM)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    found: Tensor = wide.mT if tall else wide
    return found
