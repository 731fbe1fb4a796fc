"""What of a base a run has learned, apart from the base: weights that replace its own, or an adapter.

A checkpoint holds this much. With the base that the run's configuration names it is a whole model
again.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise_tensors
from torch import Tensor, nn

from metacog.errors import CheckpointError
from metacog.model.adapt import ADAPTER
from metacog.model.adapter import WEIGHTS_NAME, adapted_digest, with_adapter
from metacog.model.base import Base
from metacog.model.places import ADAPTER_DIRECTORY, ADAPTER_NAME, DELTA_NAME
from metacog.telemetry.files import write_bytes, write_json

_PREFIX = "base_model.model."
"""What PEFT puts before the names of a base's modules in an adapter's file."""


def write_learned(base: Base, directory: Path) -> Base:
    """Write what of a base learns, and return the base as it is with that.

    Adapters go to `adapter/` as PEFT writes them, weights of the base's own to
    `base_delta.safetensors`.
    """
    learning = {n: p for n, p in base.model.named_parameters() if p.requires_grad}
    if any(".lora_" in name for name in learning):
        return _write_adapter(base, directory / ADAPTER_DIRECTORY)
    content = serialise_tensors({n: p.detach().contiguous() for n, p in learning.items()})
    write_bytes(directory / DELTA_NAME, content)
    return replace(base, path=directory, digest=_digest(base, content))


def with_learned(base: Base, directory: Path) -> Base:
    """Return a base with what `write_learned` wrote of it; as it is where there is nothing.

    Raises:
        CheckpointError: If the weights are damaged or those of another base.
        ModelError: If the adapter is.
    """
    if (directory / ADAPTER_DIRECTORY / ADAPTER_NAME).is_file():
        return with_adapter(base, directory / ADAPTER_DIRECTORY)
    path = directory / DELTA_NAME
    if not path.is_file():
        return base
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"Wanted learned weights of the base in {path}, but {error}. Use another checkpoint."
        ) from error
    _replace_weights(base.model, tensors, path)
    return replace(base, path=directory, digest=_digest(base, path.read_bytes()))


@torch.no_grad()
def _replace_weights(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    own = dict(model.named_parameters())
    faults = [
        name
        for name, tensor in tensors.items()
        if name not in own
        or (own[name].shape, own[name].dtype) != (tensor.shape, tensor.dtype)
        or not bool(torch.isfinite(tensor).all())
    ]
    if faults:
        raise CheckpointError(
            f"Wanted finite weights of the run's base in {path}, but {', '.join(sorted(faults)[:5])} "
            "does not fit it. Name the base that the run started from in its config.yaml."
        )
    for name, tensor in tensors.items():
        own[name].copy_(tensor)


def _write_adapter(base: Base, directory: Path) -> Base:
    """Write adapters in PEFT's format, the same bytes for the same adapters."""
    directory.mkdir()
    tensors = get_peft_model_state_dict(base.model, adapter_name=ADAPTER)
    named = {f"{_PREFIX}{name}": tensor.contiguous() for name, tensor in tensors.items()}
    write_bytes(directory / WEIGHTS_NAME, serialise_tensors(named))
    adapter = cast(LoraConfig, base.model.peft_config[ADAPTER])
    settings = adapter.to_dict() | {
        "base_model_name_or_path": str(base.path),
        "inference_mode": True,
    }
    write_json(directory / ADAPTER_NAME, json.loads(json.dumps(settings, default=sorted)))
    return replace(base, path=directory, digest=adapted_digest(base, directory))


def _digest(base: Base, content: bytes) -> str:
    return hashlib.sha256(base.digest.encode() + content).hexdigest()
