"""Other ways to make one state of all blocks: the last block, the mean, a scalar mixture.

Each is trained anew in a whole layer, on the same rows for as many steps as attention is, so that
nothing but the aggregation differs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor, nn

from metacog.eval.evidence import Evidence
from metacog.model.aggregate import LayerAggregator
from metacog.model.metacog import MetacogLayer
from metacog.model.shape import LayerShape

STEPS = 400
BATCH = 256
RATE = 1e-3
EVERY = 20
"""Steps between looks at the replies that are held out."""
_HELD = 6
"""One in so many replies is held out."""


@dataclass(frozen=True)
class Opinion:
    """What a layer says of each reply."""

    confidence: Float[ndarray, " rows"]
    """Probability of ending right without a budget."""
    fraction: Float[ndarray, " rows"]
    """Budget on the layer's scale, 0 to 1."""


class ScalarMix(LayerAggregator):
    """One weight a block, the same for every prompt: alpha = softmax(s)."""

    def __init__(self, proj: int, layers: int) -> None:
        super().__init__(proj, "mean")
        self.scores = nn.Parameter(torch.zeros(layers))

    def _weights(self, z: Float[Tensor, "batch layers proj"]) -> Float[Tensor, "batch layers"]:
        return self.scores.softmax(0).expand(len(z), -1)


def attention(shape: LayerShape) -> MetacogLayer:
    """Return a layer that weighs its blocks by what they say."""
    return MetacogLayer(shape.model_copy(update={"agg": "attn", "linked_all_layers": True}))


def mean(shape: LayerShape) -> MetacogLayer:
    """Return a layer that weighs all blocks alike."""
    return MetacogLayer(shape.model_copy(update={"agg": "mean", "linked_all_layers": True}))


def last_layer(shape: LayerShape) -> MetacogLayer:
    """Return a layer that reads the last block alone."""
    return MetacogLayer(shape.model_copy(update={"linked_all_layers": False}))


def scalar_mix(shape: LayerShape) -> MetacogLayer:
    """Return a layer with one learned weight a block."""
    layer = mean(shape)
    layer.aggregator = ScalarMix(shape.proj_dim, shape.num_layers)
    return layer


AGGREGATORS: Mapping[str, Callable[[LayerShape], MetacogLayer]] = {
    "attention": attention,
    "last_layer": last_layer,
    "mean": mean,
    "scalar_mix": scalar_mix,
}


def opinion_after_training(
    name: str, shape: LayerShape, fit: Evidence, new: Evidence, *, quantile: float, seed: int
) -> Opinion:
    """Train a layer with one of the aggregators, and return what it says of other replies.

    Args:
        name: Of the aggregator.
        shape: Of the layer in everything else.
        fit: Replies to learn confidence and need from.
        new: Replies to judge.
        quantile: Of need that the budget stands for.
        seed: Of weights and batches.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = AGGREGATORS[name](shape)
        _train(layer, fit, quantile, seed)
    layer.eval()
    states = torch.from_numpy(new.prompt_states).float()
    with torch.no_grad():
        out = layer.read(states, torch.full((len(new),), torch.inf), telemetry=False)
    return Opinion(
        out.conf_raw.squeeze(-1).sigmoid().numpy().astype(np.float64),
        out.budget_raw.squeeze(-1).sigmoid().numpy().astype(np.float64),
    )


def _train(layer: MetacogLayer, fit: Evidence, quantile: float, seed: int) -> None:
    """Train on most of the replies, and keep the weights that do best on the rest of them."""
    rows = _Targets(layer, fit)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(fit), generator=generator)
    held, seen = order[: len(fit) // _HELD], order[len(fit) // _HELD :]
    optimizer = torch.optim.AdamW(layer.parameters(), lr=RATE, weight_decay=0.01)
    best = (float("inf"), layer.state_dict())
    for step in range(STEPS):
        if step % EVERY == 0:
            with torch.no_grad():
                value = float(rows.loss(layer, held, quantile))
            if value < best[0]:
                best = (value, {name: t.clone() for name, t in layer.state_dict().items()})
        drawn = torch.randint(len(seen), (min(BATCH, len(seen)),), generator=generator)
        with torch.enable_grad():
            loss = rows.loss(layer, seen[drawn], quantile)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    layer.load_state_dict(best[1])


class _Targets:
    """States with the labels of confidence and budget."""

    def __init__(self, layer: MetacogLayer, fit: Evidence) -> None:
        self.states = torch.from_numpy(fit.prompt_states).float()
        self.right = torch.from_numpy(fit.right_at(fit.natural)).float()
        need = torch.from_numpy(fit.need).float()
        self.known = ~need.isnan()
        self.target = layer.scale.fraction(need.nan_to_num(1.0))

    def loss(self, layer: MetacogLayer, rows: Int[Tensor, " rows"], quantile: float) -> Tensor:
        """Return cross-entropy of confidence plus pinball loss of the budget where need is known."""
        out = layer.read(self.states[rows], torch.full((len(rows),), torch.inf), telemetry=False)
        short = self.target[rows] - out.budget_raw.squeeze(-1).sigmoid()
        pinball = torch.maximum(quantile * short, (quantile - 1) * short) * self.known[rows]
        doubt = nn.functional.binary_cross_entropy_with_logits(
            out.conf_raw.squeeze(-1), self.right[rows]
        )
        total: Tensor = doubt + pinball.sum() / self.known[rows].sum().clamp(min=1)
        return total
