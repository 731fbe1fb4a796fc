"""What a model directory may not hold, looked for before any library reads it.

A directory is data from strangers: nothing in it may run code, lead elsewhere or fill memory.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import __version__ as transformers_version
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from metacog.errors import ModelError
from metacog.model.places import ADAPTER_NAME

CONFIG_NAME = "config.json"
UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    ImportError,
    StrictDataclassError,
)
"""What transformers raises where a file is not what it should be."""

_RUNS_CODE = frozenset(
    {
        "auto_map",
        "trust_remote_code",
        "_attn_implementation_internal",
        "_experts_implementation_internal",
    }
)
"""Keys that make transformers import code from the directory or from a hub."""

_IMPLEMENTATIONS = frozenset(
    {"_attn_implementation", "attn_implementation", "experts_implementation"}
)
"""Keys whose value names code: a built-in one by a word, one from a hub by `owner/name`."""

_UNSAFE_WEIGHTS = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".msgpack", ".h5", ".gguf")
_MEGABYTE = 2**20
_MOST_BYTES = {
    ".json": 4 * _MEGABYTE,
    ".jinja": 100_000,
    ".txt": 32 * _MEGABYTE,
    ".model": 32 * _MEGABYTE,
}
_MOST_BYTES_OF = {
    "tokenizer.json": 128 * _MEGABYTE,
    "vocab.json": 32 * _MEGABYTE,
    "model.safetensors.index.json": 32 * _MEGABYTE,
}


def require_harmless(directory: Path) -> None:
    """Refuse a model directory that is none, or holds what may run code or lead elsewhere.

    Raises:
        ModelError: naming the file or key.
    """
    _require_base(directory)
    if (directory / ADAPTER_NAME).exists():
        raise ModelError(
            f"Wanted a base alone in {directory}, found an adapter beside it. Merge it into "
            "the base and save that, or put the adapter into a directory of its own."
        )
    require_plain_files(directory)
    _require_known(directory / CONFIG_NAME)


def require_plain_files(directory: Path) -> None:
    """Refuse links that leave a directory, code, files that fill memory, and keys that name code.

    Raises:
        ModelError: naming the file or key.
    """
    for entry in _entries(directory):
        _require_inside(entry, directory)
        if entry.suffix == ".py":
            raise ModelError(
                f"Wanted a model directory without code, found {entry}. Code that comes with a "
                "model never runs: remove the file, or use a base that transformers itself knows."
            )
        _require_small(entry)
    for file in sorted(directory.glob("*.json")):
        found = read_json(file)
        if "config" in file.name:
            _require_no_code(found, file)


def read_json(file: Path) -> Any:
    """Return what a JSON file of a model directory holds.

    Raises:
        ModelError: if it cannot be read, is no JSON or is nested too deeply.
    """
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"Wanted JSON in {file}, but it cannot be read: {error}. Fetch the model again."
        ) from error


def _require_base(directory: Path) -> None:
    names = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
    tensors = [n for n in names if n.endswith(".safetensors") and n != "metacog.safetensors"]
    if CONFIG_NAME in names and tensors:
        return
    unsafe = [name for name in names if name.endswith(_UNSAFE_WEIGHTS)]
    others = f" with {', '.join(unsafe)}, which is never read" if unsafe else ""
    raise ModelError(
        f"Wanted a model directory with config.json and *.safetensors, got {directory}{others}. "
        "Name a directory that `save_pretrained` wrote."
    )


def _entries(directory: Path) -> Iterator[Path]:
    """Yield what lies in the directory and in the one folder of it that transformers reads."""
    yield from sorted(directory.iterdir())
    yield from sorted(directory.glob("additional_chat_templates/*"))


def _require_inside(entry: Path, directory: Path) -> None:
    """Refuse a link that leaves the directory; a hub cache keeps its files in `../../blobs`."""
    if not entry.is_symlink():
        return
    home, target = directory.resolve(), entry.resolve()
    homes = [home]
    if home.parent.name == "snapshots":
        homes.append(home.parents[1] / "blobs")
    if not any(target.is_relative_to(place) for place in homes):
        raise ModelError(
            f"Wanted links that stay in {directory}, but {entry.name} leads to {target}. "
            "Put the file itself there."
        )


def _require_small(entry: Path) -> None:
    most = _MOST_BYTES_OF.get(entry.name, _MOST_BYTES.get(entry.suffix))
    if most is None or not entry.is_file():
        return
    size = entry.stat().st_size
    if size > most:
        raise ModelError(
            f"Wanted at most {most} bytes in {entry}, got {size}. Fetch the model again."
        )


def _require_no_code(found: Any, file: Path) -> None:
    for key, value in _items(found):
        implementation = key in _IMPLEMENTATIONS and isinstance(value, str)
        if key in _RUNS_CODE or (implementation and not value.isidentifier()):
            raise ModelError(
                f"Wanted settings alone in {file}, got {key}, which names code to run. Code that "
                "comes with a model never runs: remove the key, or use another base."
            )


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, however deep; `json` bounded the depth already."""
    if isinstance(value, dict):
        yield from value.items()
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, dict | list):
            yield from _items(part)


def _require_known(file: Path) -> None:
    config = read_json(file)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        raise ModelError(
            f"Wanted a model_type in {file} that transformers {transformers_version} knows as a "
            f"causal language model, got {kind!r}. Use another base, or a later transformers."
        )
    if "quantization_config" in config:
        raise ModelError(
            f"Wanted plain weights, but {file} holds a quantization_config. Use the base as it was "
            "before it was quantized."
        )
