"""Confidence from one learned mixture of all blocks, the same for every prompt.

    p = sigmoid(w sum_l softmax(s)_l h_l / rms(h_l) + b)

Peters et al. 2018, "Deep contextualized word representations", section 3.2: what attention over blocks
has to beat.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from metacog.eval.evidence import Evidence

STEPS = 300
DECAY = 0.1


class ScalarMixProbe(nn.Module):
    """A weight for each block and a linear map of the mixture."""

    def __init__(self, layers: int, hidden: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(layers))
        self.out = nn.Linear(hidden, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, states: Float[Tensor, "rows layers hidden"]) -> Float[Tensor, " rows"]:
        """Return the logits."""
        alpha = self.scores.softmax(0)
        logit: Tensor = self.out(torch.einsum("l,rlh->rh", alpha, states))
        return logit.squeeze(-1)


def predict(fit: Evidence, new: Evidence) -> Float[ndarray, " rows"]:
    """Return the probability of being right, by a probe fitted to all replies at once."""
    inputs, labels = _normed(fit.prompt_states), torch.from_numpy(fit.correct).float()
    probe = ScalarMixProbe(*inputs.shape[1:])
    optimizer = torch.optim.AdamW(probe.parameters(), lr=0.02, weight_decay=DECAY)
    with torch.enable_grad():
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(probe(inputs), labels)
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        said: Float[ndarray, " rows"] = probe(_normed(new.prompt_states)).sigmoid().numpy()
    return said.astype(np.float64)


def _normed(states: Float[ndarray, "rows layers hidden"]) -> Float[Tensor, "rows layers hidden"]:
    tensor = torch.from_numpy(states).float()
    return tensor / tensor.pow(2).mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
