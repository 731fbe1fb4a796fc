"""A re-reading with its weights laid together: what the layer says inside THINK, in few operations.

Some rows are due at almost every step of a batch. On so few states a call costs more than what it
computes, so linear maps that follow one another, or stand side by side, are one map here:

    s_l   = silu(W1 x_l + place_l)                    z_l = W2 s_l is never made
    alpha = softmax_l(v . tanh(U W2 s_l))             alpha_l = 1 / L without attention
    m     = sum_l alpha_l s_l                         g = W2 m
    raw   = B silu(A [W2 m ; spent] + a) + b          needed, ready and gain, the latter two calibrated
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from metacog.model.heads import RereadHeads
from metacog.model.norms import inverse_rms
from metacog.model.reader import Reader
from metacog.model.trunk import TINY, Phase

Reals = NDArray[np.float32]


class Outlooks(NamedTuple):
    """What re-readings say, calibrated: one number a point, in fp32."""

    needed: Reals
    """THINK tokens still needed."""
    ready: Reals
    """Probability of a right answer if THINK closed now."""
    gain: Reals
    """Probability that going on makes right what closing now would leave wrong."""
    allowed: Reals
    """THINK tokens that a budget is lowered to: what is needed, times the calibration's factor."""


class RereadMaps:
    """What `Reader.reread` says, up to rounding, without its raw outputs.

    It belongs to the weights as they are when it is made: one for each batch.
    """

    @torch.no_grad()
    def __init__(self, reader: Reader) -> None:
        layer, blob = reader.layer, reader.calibration
        trunk, aggregator, heads = layer.trunk, layer.aggregator, layer.reread_heads
        outer = trunk.outer.weight
        self._num_blocks = len(layer.shape.blocks)
        self._inner = trunk.inner.weight
        self._place = trunk.layer_embedding + trunk.phase_embedding[Phase.THINK]
        self._attention = None
        if aggregator.has_attention:
            # tanh(x) = 2 sigmoid(2 x) - 1 at half the time, and the softmax drops the constant.
            self._attention = 2 * aggregator.key.weight @ outer, 2 * aggregator.query.weight
        most = math.log1p(layer.scale.max)
        self._first = _side_by_side(heads, outer, most)
        self._last = _calibrated(
            heads,
            factors=(1.0, 1 / blob.ready_temperature, 1 / blob.gain_temperature),
            biases=(0.0, blob.ready_bias, blob.gain_bias),
        )
        # The scale of what is needed is logarithmic from 0, so shares of it need no clamp.
        self._most, self._needed_scale = np.float32(most), np.float32(blob.needed_scale)
        self.calibration = blob
        self._epsilon = torch.tensor(TINY, device=outer.device)

    def __call__(self, states: Float[Tensor, "points layers hidden"], used: Reals) -> Outlooks:
        """Return what the layer says after `used` THINK tokens."""
        h = states[:, -self._num_blocks :].float()
        scale = inverse_rms(h, self._epsilon).unsqueeze(-1)
        s = silu(torch.addcmul(self._place, linear(h, self._inner), scale))
        spent = torch.from_numpy(np.log1p(used)[:, None]).to(h.device)
        inputs = torch.cat([self._mixed(s), spent], dim=1)
        said = linear(silu(linear(inputs, *self._first)), *self._last).sigmoid()
        share, ready, gain = said.detach().cpu().numpy().T
        needed = np.expm1(self._most * share)
        return Outlooks(needed, ready, gain, needed * self._needed_scale)

    def _mixed(self, s: Float[Tensor, "points blocks proj"]) -> Float[Tensor, "points proj"]:
        if self._attention is None:
            return s.mean(1)
        key, query = self._attention
        alpha = linear(linear(s, key).sigmoid(), query).softmax(1)
        return (alpha.transpose(1, 2) @ s).squeeze(1)


def _side_by_side(heads: RereadHeads, outer: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """Return the heads' first maps as one, of [m ; log(1 + used)]; spent = log(1 + used) / most."""
    firsts, _ = _maps(heads)
    weight = torch.cat([first.weight for first in firsts])
    bias = torch.cat([first.bias for first in firsts])
    return torch.cat([weight[:, :-1] @ outer, weight[:, -1:] / most], dim=1), bias


def _calibrated(
    heads: RereadHeads, *, factors: tuple[float, ...], biases: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Return the heads' last maps as one, each of its own part of the inner states."""
    _, lasts = _maps(heads)
    weight = torch.block_diag(*(last.weight * f for last, f in zip(lasts, factors, strict=True)))
    bias = torch.cat([last.bias * f + b for last, f, b in zip(lasts, factors, biases, strict=True)])
    return weight, bias


def _maps(heads: RereadHeads) -> tuple[list[nn.Linear], list[nn.Linear]]:
    """Return the first maps and the last ones, of needed, ready and gain."""
    mlps = (heads.needed, heads.ready, heads.gain)
    linear_maps = [[part for part in mlp if isinstance(part, nn.Linear)] for mlp in mlps]
    return [maps[0] for maps in linear_maps], [maps[-1] for maps in linear_maps]
