"""What an adapter's directory says of itself, and what in it is refused before PEFT reads it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from metacog.errors import ModelError
from metacog.model.places import ADAPTER_NAME
from metacog.model.refuse import require_plain_files
from metacog.model.shape import faults_of

SAVE_AGAIN = "Save the adapter again with `save_pretrained`."

_MOST_LETTERS = 1_000
_MOST_REPEATS = 5
_MOST_PATTERNS = 2_000
_REPEAT = re.compile(r"[*+]|\{\d*,\d*\}")
_REPEATED_GROUP = re.compile(r"\)(?:[*+]|\{)")


class AdapterCard(BaseModel):
    """What of `adapter_config.json` is ours to act on; the rest is PEFT's."""

    peft_type: str
    base_model_name_or_path: str | None = None
    revision: str | None = None
    megatron_config: None = None
    """Refused: with it PEFT imports a module that the settings name."""
    layer_replication: None = None
    """Refused: with it PEFT makes the base as deep as the settings say."""
    init_lora_weights: Any = True
    """How PEFT begins before the file's weights are put in; what changes the base's is refused."""
    target_modules: str | list[str] | None = None
    exclude_modules: str | list[str] | None = None
    layers_pattern: str | list[str] | None = None
    rank_pattern: dict[str, Any] | None = None
    alpha_pattern: dict[str, Any] | None = None

    def patterns(self) -> Iterator[str]:
        """Yield what PEFT reads as regular expressions and runs over the names of all modules."""
        for given in (self.target_modules, self.exclude_modules, self.layers_pattern):
            yield from [given] if isinstance(given, str) else given or []
        for by_name in (self.rank_pattern, self.alpha_pattern):
            yield from by_name or {}


def read_card(directory: Path) -> AdapterCard:
    """Return an adapter's settings after looking at every file beside them.

    Raises:
        ModelError: naming the file or key: settings that cannot be read, of another method than
            LoRA, or that would run code or for ever; links that leave the directory; huge files.
    """
    require_plain_files(directory)
    path = directory / ADAPTER_NAME
    try:
        card = AdapterCard.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fault = faults_of(error) if isinstance(error, ValidationError) else error
        raise ModelError(
            f"Wanted an adapter's settings in {path}, but {fault}. {SAVE_AGAIN}"
        ) from error
    if card.peft_type != "LORA":
        raise ModelError(
            f"Wanted a LORA adapter in {path}, got peft_type {card.peft_type}. Merge it into its "
            "base where it was trained, and name the result."
        )
    if isinstance(card.init_lora_weights, str) and card.init_lora_weights not in {
        "gaussian",
        "orthogonal",
    }:
        raise ModelError(
            f"Wanted an adapter that leaves its base as it is, but init_lora_weights is "
            f"{card.init_lora_weights!r} in {path}. Convert it to plain LoRA where it was trained."
        )
    _require_quick(list(card.patterns()), path)
    return card


def _require_quick(patterns: list[str], path: Path) -> None:
    if len(patterns) > _MOST_PATTERNS:
        raise ModelError(
            f"Wanted at most {_MOST_PATTERNS} names of modules in {path}, got {len(patterns)}. Name "
            "kinds of modules, such as q_proj."
        )
    slow = next((pattern for pattern in patterns if _is_slow(pattern)), None)
    if slow is not None:
        raise ModelError(
            f"Wanted plain patterns of module names in {path}, but {slow[:80]!r} could take very "
            "long to match. Name the modules one by one."
        )


def _is_slow(pattern: str) -> bool:
    """Say whether matching may backtrack for long: repeats inside repeats, or many in a row."""
    return (
        len(pattern) > _MOST_LETTERS
        or len(_REPEAT.findall(pattern)) > _MOST_REPEATS
        or _REPEATED_GROUP.search(pattern) is not None
    )
