"""Other ways to make one state of all blocks: the last block, the mean, a scalar mixture.

Each is trained anew in a whole layer, on the same rows for as many steps as attention is, so that
nothing but the aggregation differs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from metacog.eval.evidence import Evidence
from metacog.model.aggregate import LayerAggregator
from metacog.model.metacog import MetacogLayer
from metacog.model.shape import LayerShape

STEPS = 400
BATCH = 256
RATE = 1e-3


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
    states = torch.from_numpy(fit.prompt_states).float()
    right = torch.from_numpy(fit.right_at(fit.natural)).float()
    need = torch.from_numpy(fit.need).float()
    known = ~need.isnan()
    target = layer.scale.fraction(need.nan_to_num(1.0))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=RATE, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(STEPS):
            rows = torch.randint(len(fit), (min(BATCH, len(fit)),), generator=generator)
            out = layer.read(states[rows], torch.full((len(rows),), torch.inf), telemetry=False)
            short = target[rows] - out.budget_raw.squeeze(-1).sigmoid()
            pinball = torch.maximum(quantile * short, (quantile - 1) * short)
            doubt = nn.functional.binary_cross_entropy_with_logits(
                out.conf_raw.squeeze(-1), right[rows]
            )
            loss = doubt + (pinball * known[rows]).sum() / known[rows].sum().clamp(min=1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
