"""What of a run's state is its own: tensors and JSON values, and the random numbers to come."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_CUDA = "cuda"


class State(NamedTuple):
    """All that an objective needs beside its weights to go on as if it had never stopped."""

    tensors: dict[str, Tensor]
    """By `part/name`; each part becomes a file of a checkpoint."""
    values: dict[str, Any]
    """JSON values."""


def random_state() -> dict[str, str]:
    """Return where the random numbers of torch stand.

    Python's and numpy's global generators are never drawn from; a contract test holds that.
    """
    found = {"torch": torch.get_rng_state()}
    if torch.get_default_device().type == _CUDA:
        found[_CUDA] = torch.cuda.get_rng_state()
    return {name: state.numpy().tobytes().hex() for name, state in found.items()}


def set_random_state(values: Mapping[str, str]) -> None:
    """Go on with the random numbers of an earlier `random_state`."""
    for name, value in values.items():
        stored = torch.from_numpy(np.frombuffer(bytes.fromhex(value), dtype=np.uint8).copy())
        if name == _CUDA:
            torch.cuda.set_rng_state(stored)
        else:
            torch.set_rng_state(stored)
