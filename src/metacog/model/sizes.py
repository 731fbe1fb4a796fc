"""The sizes that a configuration asks for, held against what the files beside it hold.

Building a model of a stranger's sizes may take all memory, or for ever. So numbers are compared with
the headers of the weights first, and then the whole is built without memory and counted.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from metacog.errors import ModelError
from metacog.model.refuse import CONFIG_NAME, UNREADABLE, read_json
from metacog.model.weights import shapes_in, weight_files

_SIZES = re.compile(
    r"^(num|n)_|_(size|dim|rank|heads|layers|experts|positions|embeddings)$|^d_model$"
)
_LOOPS = re.compile(r"heads|layers?$|experts$")
"""Sizes for each of which a module may be made, one by one."""
_FEW, _MANY = 2**7, 2**20
"""Sizes of which no harm can come, whatever the weights hold."""
_SPARE = 2**24
_HEADS = ("num_attention_heads", "n_head", "num_heads")
_WIDTHS = ("hidden_size", "n_embd", "d_model")
_NEVER_ZERO = frozenset(
    {*_WIDTHS, "vocab_size", "intermediate_size", "num_hidden_layers", "n_layer"}
)


def require_sizes(directory: Path) -> None:
    """Refuse a configuration whose sizes are none, or far beyond the weights beside it.

    Raises:
        ModelError: naming the key, or what the whole asks for and what the files hold.
    """
    file = directory / CONFIG_NAME
    found = [shapes_in(weights) for weights in weight_files(directory)]
    shapes = [shape for part in found for shape in part.values()]
    widest = max((max(shape, default=1) for shape in shapes), default=1)
    for section in _sections(read_json(file)):
        for key, value in section.items():
            if _SIZES.search(key):
                few = _LOOPS.search(key) is not None
                most = max(widest, _FEW if few else _MANY, len(shapes))
                _require_size(file, key, value, most)
        _require_heads(file, section)
    _require_room(directory, sum(math.prod(shape) for shape in shapes))


def _sections(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield config
    yield from (part for part in config.values() if isinstance(part, dict))


def _require_size(file: Path, key: str, value: object, most: int) -> None:
    if value is None or isinstance(value, bool | list | dict):
        return
    least = 1 if key in _NEVER_ZERO else 0
    if not isinstance(value, int) or value < least:
        raise ModelError(
            f"Wanted {key} in {file} to be a whole number of {least} or more, got {value!r:.80}. "
            "Correct it, or fetch the model again."
        )
    if value > most and "position" not in key:
        raise ModelError(
            f"Wanted {key} in {file} to go with the weights beside it, got {value:.4g}, where their "
            f"largest size is {most}. Correct it, or fetch the model again."
        )


def _require_heads(file: Path, section: Mapping[str, Any]) -> None:
    """Refuse heads that do not divide what they share."""
    heads = next((section[key] for key in _HEADS if key in section), None)
    width = next((section[key] for key in _WIDTHS if key in section), None)
    groups = section.get("num_key_value_heads")
    if not isinstance(heads, int) or not isinstance(width, int):
        return
    if heads < 1 or (section.get("head_dim") is None and width % heads):
        raise ModelError(
            f"Wanted a number of heads in {file} that divides its width {width}, got {heads}. "
            "Correct it, or fetch the model again."
        )
    if isinstance(groups, int) and (groups < 1 or heads % groups):
        raise ModelError(
            f"Wanted num_key_value_heads in {file} that divides its {heads} heads, got {groups}. "
            "Correct it, or fetch the model again."
        )


def _require_room(directory: Path, held: int) -> None:
    """Refuse a model that is far larger than its weights, counted where it takes no memory."""
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except UNREADABLE as error:
        raise ModelError(f"The model in {directory} cannot be read: {error}") from error
    wanted = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    if wanted > 2 * held + _SPARE:
        raise ModelError(
            f"Wanted the weights that {directory / CONFIG_NAME} asks for, {wanted:.4g} numbers, but "
            f"the files beside it hold {held:.4g}. Correct its sizes, or fetch the model again."
        )
