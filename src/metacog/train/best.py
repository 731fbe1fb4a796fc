"""Early stopping: the weights that did best on validation, and when to give up."""

import copy
import math
from typing import TypeVar

from torch import Tensor, nn

from metacog.train.state import State

Module = TypeVar("Module", bound=nn.Module)

_BEST = "best"


class Best:
    """Remembers a module's weights at its lowest validation loss.

    Args:
        module: What is being trained.
        patience: Losses in a row that are no lower, after which training may stop.
    """

    def __init__(self, module: nn.Module, *, patience: int) -> None:
        self._module, self._patience, self._worse = module, patience, 0
        self._loss: float | None = None
        self._state: dict[str, Tensor] = {}

    @property
    def is_stale(self) -> bool:
        """Whether the last `patience` losses brought nothing."""
        return self._worse >= self._patience

    def offer(self, loss: float) -> None:
        """Take the weights as they are now for the best if this loss is finite and the lowest so far."""
        if math.isfinite(loss) and (self._loss is None or loss < self._loss):
            self._loss, self._worse = loss, 0
            self._state = copy.deepcopy(self._module.state_dict())
        else:
            self._worse += 1

    def state(self) -> State:
        """Return the best weights, their loss, and how many losses since were no lower."""
        tensors = {f"{_BEST}/{name}": value.clone() for name, value in self._state.items()}
        return State(tensors, {"best_loss": self._loss, "worse": self._worse})

    def load_state(self, state: State) -> None:
        """Go on from what `state` returned for a module of the same kind."""
        self._loss, self._worse = state.values["best_loss"], state.values["worse"]
        self._state = {
            name.removeprefix(f"{_BEST}/"): value
            for name, value in state.tensors.items()
            if name.startswith(f"{_BEST}/")
        }

    def module_of(self, module: Module) -> Module:
        """Return a copy of the module with the best weights, or as it is before any loss."""
        found = copy.deepcopy(module)
        if self._loss is not None:
            found.load_state_dict(self._state)
        return found
