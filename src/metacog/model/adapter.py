"""Loads a PEFT adapter: finds the base that it was trained on and merges both into a plain model."""

import hashlib
import re
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metacog.errors import ModelError
from metacog.model.adapter_card import SAVE_AGAIN, read_card
from metacog.model.base import Base, digest_of, load_base, load_tokenizer, number_type_of
from metacog.model.hub import cached
from metacog.model.places import ADAPTER_NAME, BUNDLED, is_adapter, resolve_model
from metacog.model.weights import require_sound_file
from metacog.text.resolve import resolve_tags

WEIGHTS_NAME = "adapter_model.safetensors"
_TOKENIZER_NAMES = ("tokenizer.json", "tokenizer_config.json")
_PREFIX = "base_model.model."
"""What PEFT puts before a base's own names."""
_WITH_EMBEDDINGS = (
    "Save the adapter again with `save_pretrained(..., save_embedding_layers=True)`, or remove the "
    "tokenizer's files."
)
_MOST_LETTERS = 400
_MISFIT = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, re.error)
"""What PEFT raises where settings are not what they should be."""


def load_adapted(
    directory: Path,
    *,
    base_path: str | Path | None = None,
    precision: str = "fp32",
    attention: str = "sdpa",
) -> Base:
    """Load the base that a LoRA adapter belongs to, with the adapter merged into its weights.

    The sum is computed in fp32 and rounded to the precision asked for once.

    The tokenizer is the adapter's own where it has one, else the base's. No network call is made.

    Args:
        directory: Holds `adapter_config.json` and `adapter_model.safetensors`.
        base_path: Name of the base; by default what the adapter's settings name.
        precision: Number type of the merged weights, fp32 or bf16.
        attention: Attention backend, sdpa or eager.

    Raises:
        ModelError: If the adapter is damaged, its base is not on this machine, or the two do not
            fit together.
    """
    number_type = number_type_of(precision)
    root = base_of_adapter(directory, base_path=base_path)
    tensors = _read_tensors(directory / WEIGHTS_NAME)
    try:
        base = load_base(root, attention=attention)
    except ModelError as error:
        raise ModelError(f"{error} It is the base of the adapter in {directory}.") from error
    model = _merged(directory, root, base.model, tensors)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(number_type)
    model.config.dtype = number_type
    digest = adapted_digest(base, directory)
    own = _tokenizer_of(directory, base, model)
    if own is not None:
        base = replace(base, tokenizer=own, tags=resolve_tags(own))
    return replace(base, model=model, path=directory, digest=digest)


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
    card = read_card(directory)
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


def _local(name: str, revision: str | None) -> Path | None:
    """Return where a base lies on this machine; an existing directory goes before a hub id."""
    if Path(name).is_dir() or name in BUNDLED:
        return resolve_model(name).base
    return cached(name, revision=revision)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(
            f"Wanted the adapter's weights in {path}, found no such file. Weights in another format "
            f"are not read. {SAVE_AGAIN}"
        )
    require_sound_file(path)
    return load_file(path)


def _tokenizer_of(
    directory: Path, base: Base, model: PreTrainedModel
) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer that was saved with an adapter, or None where there is none.

    It may add tokens to the base's, as far as the merged model has embeddings for them.
    """
    if not any((directory / name).is_file() for name in _TOKENIZER_NAMES):
        return None
    tokenizer = load_tokenizer(directory, model.config)
    _, rows = _embedding_of(model, model.get_input_embeddings())
    if len(tokenizer) > max(rows, len(base.tokenizer)):
        raise ModelError(
            f"The tokenizer in {directory} has {len(tokenizer)} tokens, but its base {base.path} with "
            f"the adapter has embeddings for {rows}. {_WITH_EMBEDDINGS}"
        )
    own, known = tokenizer.get_vocab(), base.tokenizer.get_vocab()
    moved = sorted(token for token, index in known.items() if own.get(token, index) != index)
    if moved:
        raise ModelError(
            f"The tokenizer in {directory} gives {len(moved)} tokens other ids than that of its base "
            f"{base.path}, such as {moved[0]!r}. Name the base that the adapter was trained on."
        )
    return tokenizer


def _merged(
    directory: Path, root: Path, model: PreTrainedModel, tensors: dict[str, Tensor]
) -> PreTrainedModel:
    """Put an adapter around a model, fill it, and fold it into the model's own weights."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT asks transformers by a name that transformers is about to give up.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        # Said where one use of a shared embedding was adapted, which is refused below.
        warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied")
        grown = _grow(model, tensors)
        shared = _shared_embedding(model)
        one_use = shared is not None and _changes_one_use(model, tensors)
        try:
            settings = LoraConfig.from_pretrained(str(directory))
            settings.inference_mode, settings.init_lora_weights = True, False
            # On meta, sizes that the settings ask for take no memory before they are compared.
            wrapped = PeftModel(model, settings, low_cpu_mem_usage=True)
        except _MISFIT as error:
            raise ModelError(
                f"The settings in {directory / ADAPTER_NAME} do not fit the base {root}: {_short(error)}. "
                "Name the base that the adapter was trained on."
            ) from error
        faults = [f"{name} is missing" for name in grown if name not in tensors]
        faults += _faults(wrapped, tensors)
        if faults:
            raise ModelError(
                f"The adapter's weights in {directory / WEIGHTS_NAME} do not fit the base {root}: "
                f"{'; '.join(faults)}. Name the base that it was trained on, or save it again."
            )
        if shared is not None and (_adapts(wrapped, shared) or one_use):
            raise _one_use(directory, root)
        try:
            set_peft_model_state_dict(wrapped, tensors, low_cpu_mem_usage=True)
            if shared is not None:
                _tie_again(model)
            merged: PreTrainedModel = wrapped.merge_and_unload()
        except _MISFIT as error:
            raise ModelError(
                f"The adapter in {directory} cannot be merged into the base {root}: {_short(error)}. "
                "Merge it where it was trained, and name the result."
            ) from error
    if shared is not None and _shared_embedding(merged) is None:
        raise _one_use(directory, root)
    _require_finite(merged, directory)
    merged.requires_grad_(True)
    merged.eval()
    return merged


def _changes_one_use(model: PreTrainedModel, tensors: dict[str, Tensor]) -> bool:
    """Say whether an adapter brings another matrix to read a shared embedding with than to write."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    name, _ = _embedding_of(model, embedding)
    read = tensors.get(f"{name}.weight", embedding.get_parameter("weight"))
    name, _ = _embedding_of(model, head)
    written = tensors.get(f"{name}.weight", read)
    return read.shape != written.shape or not torch.equal(read, written)


def _tie_again(model: PreTrainedModel) -> None:
    """Share an embedding again whose matrix came with an adapter: filling it parts the two uses."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(embedding, nn.Embedding) and isinstance(head, nn.Linear):
        head.weight = embedding.weight


def _grow(model: PreTrainedModel, tensors: dict[str, Tensor]) -> list[str]:
    """Give a model as many embeddings as were saved with an adapter that added tokens.

    Returns:
        The names that must be among the adapter's tensors then: nothing new may stay random.
    """
    name, rows = _embedding_of(model, model.get_input_embeddings())
    saved = tensors.get(f"{name}.weight")
    if saved is None or saved.ndim != 2 or len(saved) <= rows:
        return []
    tied = _shared_embedding(model) is not None
    model.resize_token_embeddings(len(saved), mean_resizing=False)
    head, _ = _embedding_of(model, model.get_output_embeddings())
    return [] if tied else [f"{head}.weight"]


def _embedding_of(model: PreTrainedModel, embedding: nn.Module) -> tuple[str, int]:
    """Return the name that PEFT gives to an embedding, and its rows."""
    name = next(name for name, module in model.named_modules() if module is embedding)
    return f"{_PREFIX}{name}", embedding.get_parameter("weight").shape[0]


def _faults(wrapped: PeftModel, tensors: dict[str, Tensor]) -> list[str]:
    """Return what is missing, unexpected or of another shape in an adapter's weights."""
    wanted = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    known = {**wrapped.state_dict(), **wanted}
    faults = [f"{name} is missing" for name in sorted(wanted.keys() - tensors.keys())]
    for name, tensor in sorted(tensors.items()):
        if name not in known:
            faults.append(f"{name} is not expected")
        elif known[name].shape != tensor.shape:
            want, got = tuple(known[name].shape), tuple(tensor.shape)
            faults.append(f"{name} wanted {want}, got {got}")
    return faults


def _require_finite(merged: PreTrainedModel, directory: Path) -> None:
    broken = [n for n, p in merged.named_parameters() if not bool(torch.isfinite(p).all())]
    if broken:
        raise ModelError(
            f"The adapter in {directory} makes {broken[0]} of its base infinite or NaN. "
            f"Look at lora_alpha in its {ADAPTER_NAME}, or use an earlier save."
        )


def _shared_embedding(model: PreTrainedModel) -> nn.Parameter | None:
    """Return the matrix that a model both reads and writes tokens with; None if it has two."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, nn.Parameter)
    return weight if weight is model.get_output_embeddings().weight else None


def _adapts(wrapped: PeftModel, weight: nn.Parameter) -> bool:
    layers = [module for module in wrapped.modules() if isinstance(module, LoraLayer)]
    return any(weight is layer.get_base_layer().weight for layer in layers)


def _one_use(directory: Path, root: Path) -> ModelError:
    return ModelError(
        f"The adapter in {directory} changes one use of an embedding that the base {root} reads "
        "and writes with, so it cannot be merged. Save the base with tie_word_embeddings false."
    )


def _short(error: Exception) -> str:
    """Return what PEFT says, without the end of a long list of names."""
    said = str(error).rstrip(".")
    return said if len(said) <= _MOST_LETTERS else f"{said[:_MOST_LETTERS]} ..."


def adapted_digest(base: Base, directory: Path) -> str:
    """Return the sha256 of the base's digest and the adapter's two files."""
    digest = hashlib.sha256(base.digest.encode())
    for name in (ADAPTER_NAME, WEIGHTS_NAME):
        digest.update((directory / name).read_bytes())
    return digest.hexdigest()
