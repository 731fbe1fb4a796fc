"""What the layer says: the experts of the blocks, and the heads of the aggregated state."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

_START = 0.1
"""Standard deviation of a head's output at the start: near 0, so near the middle of its range."""


class Opinions(NamedTuple):
    """Plan, budget and confidence of every block, before any scale."""

    plan_logits: Float[Tensor, "batch layers plans"]
    budget_raw: Float[Tensor, "batch layers 1"]
    conf_raw: Float[Tensor, "batch layers 1"]


class Outlook(NamedTuple):
    """A re-reading before any scale, of the aggregated state or of every block."""

    needed_raw: Float[Tensor, "*rows 1"]
    ready_raw: Float[Tensor, "*rows 1"]
    gain_raw: Float[Tensor, "*rows 1"]


def head(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear map whose output starts near zero, but not at it, so that all parts learn."""
    linear = nn.Linear(inputs, outputs)
    nn.init.normal_(linear.weight, std=_START / math.sqrt(inputs))
    nn.init.zeros_(linear.bias)
    return linear


class PerBlockLinear(nn.Module):
    """A linear map of its own for every block, as one operation.

    y_l = A_l z_l + a_l
    """

    def __init__(self, num_layers: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_layers, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(num_layers, outputs))
        nn.init.normal_(self.weight, std=_START / math.sqrt(inputs))

    def forward(
        self, z: Float[Tensor, "batch layers inputs"]
    ) -> Float[Tensor, "batch layers outputs"]:
        """Return y for all blocks at once."""
        return torch.einsum("bli,loi->blo", z, self.weight) + self.bias


class Experts(nn.Module):
    """Each block's own plan, budget and confidence: one parameter set a block.

        plan_l = A_l z_l [K]    budget_l = b_l z_l [1]    conf_l = c_l [z_l ; spend] [1]

    Every map has a bias. `spend` stands for the enforced budget; see `MetacogLayer`.
    """

    def __init__(self, proj: int, num_layers: int, num_plans: int) -> None:
        super().__init__()
        self.plan = PerBlockLinear(num_layers, proj, num_plans)
        self.budget = PerBlockLinear(num_layers, proj, 1)
        self.confidence = PerBlockLinear(num_layers, proj + 1, 1)

    def forward(
        self, z: Float[Tensor, "batch layers proj"], spend: Float[Tensor, "batch 1"]
    ) -> Opinions:
        """Return every block's opinion; all judge their confidence at the same budget."""
        return Opinions(self.plan(z), self.budget(z), self.confidence(_beside(z, spend)))


class RereadExperts(nn.Module):
    """Each block's own re-reading: tokens needed, ready and gain, from [z_l ; spent]."""

    def __init__(self, proj: int, num_layers: int) -> None:
        super().__init__()
        self.needed = PerBlockLinear(num_layers, proj + 1, 1)
        self.ready = PerBlockLinear(num_layers, proj + 1, 1)
        self.gain = PerBlockLinear(num_layers, proj + 1, 1)

    def forward(
        self, z: Float[Tensor, "batch layers proj"], spent: Float[Tensor, "batch 1"]
    ) -> Outlook:
        """Return every block's outlook."""
        inputs = _beside(z, spent)
        return Outlook(self.needed(inputs), self.ready(inputs), self.gain(inputs))


class GlobalHeads(nn.Module):
    """Plan and budget from g, confidence from [g ; spend]: what acts."""

    def __init__(self, proj: int, num_plans: int) -> None:
        super().__init__()
        self.plan = head(proj, num_plans)
        self.budget = head(proj, 1)
        self.confidence = head(proj + 1, 1)

    def decide(
        self, g: Float[Tensor, "batch proj"]
    ) -> tuple[Float[Tensor, "batch plans"], Float[Tensor, "batch 1"]]:
        """Return plan logits and the raw budget."""
        return self.plan(g), self.budget(g)

    def believe(
        self, g: Float[Tensor, "batch proj"], spend: Float[Tensor, "batch 1"]
    ) -> Float[Tensor, "batch 1"]:
        """Return the logit of ending right under the budget that `spend` stands for."""
        logit: Tensor = self.confidence(torch.cat([g, spend], dim=-1))
        return logit


class RereadHeads(nn.Module):
    """Tokens needed, ready and gain, each by an MLP with one hidden layer, from [g ; spent]."""

    def __init__(self, proj: int, hidden: int | None = None) -> None:
        super().__init__()
        width = proj if hidden is None else hidden
        self.needed = _mlp(proj + 1, width)
        self.ready = _mlp(proj + 1, width)
        self.gain = _mlp(proj + 1, width)

    def forward(self, g: Float[Tensor, "batch proj"], spent: Float[Tensor, "batch 1"]) -> Outlook:
        """Return the outlook of the aggregated state."""
        inputs = torch.cat([g, spent], dim=-1)
        return Outlook(self.needed(inputs), self.ready(inputs), self.gain(inputs))


def _mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), head(hidden, 1))


def _beside(
    z: Float[Tensor, "batch layers proj"], number: Float[Tensor, "batch 1"]
) -> Float[Tensor, "batch layers inputs"]:
    """Put a row's number beside the projection of each of its blocks."""
    column = number.unsqueeze(1).expand(-1, z.shape[1], -1)
    return torch.cat([z, column], dim=-1)
