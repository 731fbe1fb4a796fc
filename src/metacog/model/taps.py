"""Read-only captures of every block's hidden state."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Taps:
    """The blocks' outputs of the forward pass that ran last."""

    def __init__(self, num_layers: int) -> None:
        self._states: list[Tensor | None] = [None] * num_layers

    def record(self, layer: int, output: Any) -> None:
        """Keep a block's hidden states, `[batch, seq, hidden]`; some blocks return a tuple."""
        self._states[layer] = output[0] if isinstance(output, tuple) else output

    def at(self, positions: Int[Tensor, " batch"]) -> Float[Tensor, "batch layers hidden"]:
        """Return every block's state at one position of each row."""
        rows = torch.arange(len(positions), device=positions.device)
        return torch.stack([state[rows, positions] for state in self._all()], dim=1)

    def gather(
        self, rows: Int[Tensor, " points"], positions: Int[Tensor, " points"]
    ) -> Float[Tensor, "points layers hidden"]:
        """Return every block's state at any number of points, named by row and position."""
        return torch.stack([state[rows, positions] for state in self._all()], dim=1)

    def newest(self, rows: Int[Tensor, " points"]) -> Float[Tensor, "points layers hidden"]:
        """Return every block's state in some rows, where one token of each row was read."""
        return torch.cat(self._all(), dim=1)[rows]

    def _all(self) -> list[Tensor]:
        states = [state for state in self._states if state is not None]
        assert len(states) == len(self._states), "a tap was read before the model ran."
        return states


@contextmanager
def taps(layers: Sequence[nn.Module]) -> Iterator[Taps]:
    """Read the hidden state after each block while the `with` runs.

    Reading never changes the forward pass. On exit, normal or not, no hook remains.
    """
    readings = Taps(len(layers))
    with ExitStack() as hooks:
        for index, layer in enumerate(layers):
            handle = layer.register_forward_hook(_recorder(readings, index))
            hooks.callback(handle.remove)
        yield readings


def _recorder(readings: Taps, index: int) -> Any:
    def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
        readings.record(index, output)

    return record
