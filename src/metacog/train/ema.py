"""A running mean of what learns: steadier than the latest weights, so it is evaluated and saved."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from metacog.train.optim import share_of, whole_of
from metacog.train.state import State

_EMA = "ema"


class Ema:
    """An exponential moving average of parameters, in fp32.

        m <- d m + (1 - d) w,   d = min(decay, (1 + n) / (10 + n)) after n updates

    so that the first weights are soon forgotten (Polyak and Juditsky 1992, "Acceleration of
    stochastic approximation by averaging").

    Args:
        parameters: What learns.
        decay: Share of the mean that a step leaves, above 0 and below 1.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._parameters = list(parameters)
        self._means = [p.detach().float().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of a step into the mean."""
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mean, parameter in zip(self._means, self._parameters, strict=True):
            mean.lerp_(parameter.float(), 1 - kept)
        self.updates += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the mean in the place of the weights, and back again after the block."""
        latest = [p.detach().clone() for p in self._parameters]
        self._fill(self._means)
        try:
            yield
        finally:
            self._fill(latest)

    def state(self) -> State:
        """Return the mean and how many steps are in it."""
        tensors = {f"{_EMA}/{i}": whole_of(mean).clone() for i, mean in enumerate(self._means)}
        return State(tensors, {"updates": self.updates})

    def load_state(self, state: State) -> None:
        """Go on from a state of the same parameters."""
        for index, mean in enumerate(self._means):
            mean.copy_(share_of(mean, state.tensors[f"{_EMA}/{index}"]))
        self.updates = state.values["updates"]

    @torch.no_grad()
    def _fill(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)
