"""Loads a PEFT adapter: finds the base that it was trained on and merges both into a plain model."""

import hashlib
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from metacog.errors import ModelError
from metacog.model.base import Base, digest_of, load_base
from metacog.model.places import ADAPTER_NAME, BUNDLED, is_adapter, resolve_model
from metacog.model.shape import faults_of

WEIGHTS_NAME = "adapter_model.safetensors"
_SAVE_AGAIN = "Save the adapter again with `save_pretrained`."


class _AdapterCard(BaseModel):
    """What of `adapter_config.json` is ours to act on; the rest is PEFT's."""

    peft_type: str
    base_model_name_or_path: str | None = None
    revision: str | None = None
    megatron_config: None = None
    """Refused: with it PEFT imports a module that the settings name."""


def load_adapted(directory: Path, *, base_path: str | Path | None = None, **options: Any) -> Base:
    """Load the base that a LoRA adapter belongs to, with the adapter merged into its weights.

    The tokenizer is the base's. No network call is made.

    Args:
        directory: Holds `adapter_config.json` and `adapter_model.safetensors`.
        base_path: Name of the base; by default what the adapter's settings name.
        options: `precision` and `attention`, as `load_base` takes them.

    Raises:
        ModelError: If the adapter is damaged, its base is not on this machine, or the two do not
            fit together.
    """
    root = base_of_adapter(directory, base_path=base_path)
    tensors = _read_tensors(directory / WEIGHTS_NAME)
    try:
        base = load_base(root, **options)
    except ModelError as error:
        raise ModelError(f"{error} It is the base of the adapter in {directory}.") from error
    model = _merged(directory, root, base.model, tensors)
    return replace(base, model=model, path=directory, digest=adapted_digest(base, directory))


def with_adapter(base: Base, directory: Path) -> Base:
    """Return a loaded base with an adapter of its own merged into its weights.

    Raises:
        ModelError: If the adapter is damaged or does not fit the base.
    """
    tensors = _read_tensors(directory / WEIGHTS_NAME)
    model = _merged(directory, base.path, base.model, tensors)
    return replace(base, model=model, path=directory, digest=adapted_digest(base, directory))


def base_of_adapter(directory: Path, *, base_path: str | Path | None = None) -> Path:
    """Return the directory of an adapter's base: a local one, or one in the hub's local cache.

    Raises:
        ModelError: If the adapter's settings cannot be read, or there is no such base here.
    """
    card = _read_card(directory)
    wanted = str(base_path or card.base_model_name_or_path or "")
    found = _local(wanted, None if base_path else card.revision) if wanted else None
    if found is None:
        raise ModelError(
            f"The adapter in {directory} goes with the base {wanted or 'of no name'}, which is "
            "neither a directory nor in the local Hugging Face cache. Name the directory of that "
            "base with --base, or in model.base_path of a recipe."
        )
    if is_adapter(found):
        raise ModelError(
            f"Wanted a whole model as base of the adapter in {directory}, got {found}, which is an "
            "adapter too. Merge that one into its base and name the result."
        )
    return found


def write_merged(base: Base, directory: Path) -> Base:
    """Write an adapted base as a plain model, and return it as it then lies in the directory."""
    base.model.save_pretrained(directory)
    base.tokenizer.save_pretrained(directory)
    return replace(base, path=directory, digest=digest_of(directory))


def _read_card(directory: Path) -> _AdapterCard:
    path = directory / ADAPTER_NAME
    try:
        card = _AdapterCard.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fault = faults_of(error) if isinstance(error, ValidationError) else error
        raise ModelError(
            f"Wanted an adapter's settings in {path}, but {fault}. {_SAVE_AGAIN}"
        ) from error
    if card.peft_type != "LORA":
        raise ModelError(
            f"Wanted a LORA adapter in {path}, got peft_type {card.peft_type}. Merge it into its "
            "base where it was trained, and name the result."
        )
    return card


def _local(name: str, revision: str | None) -> Path | None:
    """Return where a base lies on this machine; an existing directory goes before a hub id."""
    if Path(name).is_dir() or name in BUNDLED:
        return resolve_model(name).base
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(
            f"Wanted the adapter's weights in {path}, found no such file. Weights in another format "
            f"are not read. {_SAVE_AGAIN}"
        )
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"Wanted the adapter's weights in {path}, but {error}. The file is damaged: copy it "
            "again from where the adapter was trained."
        ) from error


def _merged(
    directory: Path, root: Path, model: PreTrainedModel, tensors: dict[str, Tensor]
) -> PreTrainedModel:
    """Put an adapter around a model, fill it, and fold it into the model's own weights."""
    shared = _shared_embedding(model)
    try:
        settings = LoraConfig.from_pretrained(str(directory))
        settings.inference_mode = True
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # PEFT asks transformers by a name that transformers is about to give up.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            wrapped = PeftModel(model, settings)
    except (ValueError, TypeError, KeyError, AttributeError, re.error) as error:
        raise ModelError(
            f"The settings in {directory / ADAPTER_NAME} do not fit the base {root}: {error}. "
            "Name the base that the adapter was trained on."
        ) from error
    faults = _faults(wrapped, tensors)
    if faults:
        raise ModelError(
            f"The adapter's weights in {directory / WEIGHTS_NAME} do not fit the base {root}: "
            f"{'; '.join(faults)}. Name the base that it was trained on, or save it again."
        )
    if shared is not None and _adapts(wrapped, shared):
        raise ModelError(
            f"The adapter in {directory} changes one use of an embedding that the base {root} reads "
            "and writes with, so it cannot be merged. Save the base with tie_word_embeddings false."
        )
    set_peft_model_state_dict(wrapped, tensors)
    merged: PreTrainedModel = wrapped.merge_and_unload()
    merged.requires_grad_(True)
    merged.eval()
    return merged


def _faults(wrapped: PeftModel, tensors: dict[str, Tensor]) -> list[str]:
    """Return what is missing, unexpected, of another shape or not finite in an adapter's weights."""
    wanted = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    known = {**wrapped.state_dict(), **wanted}
    faults = [f"{name} is missing" for name in sorted(wanted.keys() - tensors.keys())]
    for name, tensor in sorted(tensors.items()):
        if name not in known:
            faults.append(f"{name} is not expected")
        elif known[name].shape != tensor.shape:
            want, got = tuple(known[name].shape), tuple(tensor.shape)
            faults.append(f"{name} wanted {want}, got {got}")
        elif not bool(torch.isfinite(tensor).all()):
            faults.append(f"{name} is not finite")
    return faults


def _shared_embedding(model: PreTrainedModel) -> nn.Parameter | None:
    """Return the matrix that a model both reads and writes tokens with; None if it has two."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, nn.Parameter)
    return weight if weight is model.get_output_embeddings().weight else None


def _adapts(wrapped: PeftModel, weight: nn.Parameter) -> bool:
    layers = [module for module in wrapped.modules() if isinstance(module, LoraLayer)]
    return any(weight is layer.get_base_layer().weight for layer in layers)


def adapted_digest(base: Base, directory: Path) -> str:
    """Return the sha256 of the base's digest and the adapter's two files."""
    digest = hashlib.sha256(base.digest.encode())
    for name in (ADAPTER_NAME, WEIGHTS_NAME):
        digest.update((directory / name).read_bytes())
    return digest.hexdigest()
