"""How much a prompt is like those that a calibration was fitted to: what its promises hold for."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise_tensors
from torch import Tensor

from metacog.errors import CalibrationError
from metacog.telemetry.files import write_bytes

FAMILIARITY_NAME = "familiarity.safetensors"
_VERSION = "1"
_NAMES = frozenset({"mean", "whitener", "distances"})


@dataclass(frozen=True)
class Familiarity:
    """The states of one block at the end of known prompts, as a normal distribution.

        distance    = |whitener (h - mean)|^2
        familiarity = (1 + number of held-out prompts at least as far away) / (1 + their number)

    The distance is Mahalanobis's, as Lee et al. 2018, "A simple unified framework for detecting
    out-of-distribution samples and adversarial attacks", section 2.1, take it for one class. The
    rank among prompts that the distribution was not fitted to is a conformal p-value (Bates et al.
    2023, "Testing for outliers with conformal p-values", section 2.2): of prompts drawn like them a
    share of at most p has a familiarity of p or less, whatever the states look like.
    """

    block: int
    """Whose states, from 0."""
    mean: Float[Tensor, " hidden"]
    whitener: Float[Tensor, "hidden hidden"]
    distances: Float[Tensor, " held"]
    """Of held-out prompts, rising."""

    def __call__(self, states: Float[Tensor, "batch layers hidden"]) -> Float[Tensor, " batch"]:
        """Return the familiarity of prompts by the blocks' states at their last token."""
        found = self.distance(states)
        held = self.distances.to(found.device)
        nearer = torch.searchsorted(held, found)
        return (1 + len(held) - nearer) / (1 + len(held))

    def distance(self, states: Float[Tensor, "batch layers hidden"]) -> Float[Tensor, " batch"]:
        """Return how far away prompts are."""
        apart = states[:, self.block].float() - self.mean.to(states.device)
        return (apart @ self.whitener.to(states.device).T).square().sum(dim=-1)


def save_familiarity(path: Path, familiarity: Familiarity, *, base_sha256: str) -> None:
    """Write it for a base, in full or not at all."""
    tensors = {name: vars(familiarity)[name].contiguous() for name in sorted(_NAMES)}
    about = {"version": _VERSION, "block": str(familiarity.block), "base_sha256": base_sha256}
    write_bytes(path, serialise_tensors(tensors, metadata=about))


def load_familiarity(path: Path, *, base_sha256: str, shape: tuple[int, int]) -> Familiarity:
    """Read it.

    Args:
        path: Of the file.
        base_sha256: Of the base whose states are to be judged.
        shape: Blocks and hidden size of that base.

    Raises:
        CalibrationError: If the file is damaged, or was made for another base.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CalibrationError(
            f"Wanted tensors in {path}, but {error}. Run `metacog calibrate` again."
        ) from error
    wanted = {"version": _VERSION, "base_sha256": base_sha256}
    if {name: about.get(name) for name in wanted} != wanted:
        raise CalibrationError(
            f"Wanted {path} to be made for {json.dumps(wanted)}, got {json.dumps(about)}. "
            "Run `metacog calibrate` again."
        )
    _require_fitting(path, about, found, shape)
    return Familiarity(int(about["block"]), **found)


def _require_fitting(
    path: Path, about: dict[str, str], found: dict[str, Tensor], shape: tuple[int, int]
) -> None:
    layers, hidden = shape
    block = about.get("block", "")
    fits = (
        found.keys() == _NAMES
        and block.isdecimal()
        and int(block) < layers
        and found["mean"].shape == (hidden,)
        and found["whitener"].shape == (hidden, hidden)
        and found["distances"].ndim == 1
        and all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in found.values())
        and bool((found["distances"].diff() >= 0).all())
    )
    if not fits:
        raise CalibrationError(
            f"Wanted finite states of one of {layers} blocks, {hidden} wide, in {path}, got something "
            "else. Run `metacog calibrate` again."
        )
