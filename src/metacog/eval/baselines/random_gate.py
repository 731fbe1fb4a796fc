"""A gate that is as strong as the learned one and knows nothing: what modulation does by itself."""

from copy import deepcopy

import torch

from metacog.model.gate import FeedbackGate


def random_gate(gate: FeedbackGate, *, seed: int = 0) -> FeedbackGate:
    """Return a gate whose W is drawn at random and has the norm of the learned one.

    Its rows keep their norms, so every channel is moved as far as before; the switch stays as it is.
    """
    generator = torch.Generator().manual_seed(seed)
    found = deepcopy(gate)
    weight = gate.project.weight.detach()
    drawn = torch.randn(weight.shape, generator=generator)
    drawn *= weight.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
    with torch.no_grad():
        found.project.weight.copy_(drawn)
    return found.eval()
