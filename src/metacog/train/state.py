"""What of a run's state is its own: tensors and JSON values, and the random numbers to come."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


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
    return {"torch": torch.get_rng_state().numpy().tobytes().hex()}


def set_random_state(values: Mapping[str, str]) -> None:
    """Go on with the random numbers of an earlier `random_state`."""
    stored = np.frombuffer(bytes.fromhex(values["torch"]), dtype=np.uint8).copy()
    torch.set_rng_state(torch.from_numpy(stored))
