"""A base's weights: read only where every tensor is there, is of its shape, and is finite."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from metacog.errors import ModelError
from metacog.model.refuse import read_json

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_AGAIN = "The file is damaged or not what it says: fetch the model again."
_KINDS = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})
_MOST_NAMES = 5


def require_sound_weights(directory: Path) -> None:
    """Refuse weights whose files lie about themselves or hold numbers that are none.

    Raises:
        ModelError: naming the file, and the tensor where there is one.
    """
    for file in weight_files(directory):
        require_sound_file(file)


def require_sound_file(file: Path) -> None:
    """Refuse one file of weights that lies about itself or holds numbers that are none.

    Raises:
        ModelError: naming the file, and the tensor where there is one.
    """
    try:
        # Opening checks the header: its length, and that tensors fill the file without overlap.
        with safe_open(file, framework="pt") as tensors:
            faults = [_fault_of(n, tensors.get_tensor(n)) for n in tensors.keys()]  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"Wanted tensors in {file}, but {error}. {_AGAIN}") from error
    broken = [fault for fault in faults if fault is not None]
    if broken:
        raise ModelError(
            f"Wanted finite floating-point weights in {file}, got {_some(broken)}. "
            "Use weights from before training diverged or was quantized."
        )


def shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a file, from its header alone.

    Raises:
        ModelError: if the header cannot be read.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            return {n: tuple(tensors.get_slice(n).get_shape()) for n in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"Wanted tensors in {file}, but {error}. {_AGAIN}") from error


def require_all_loaded(info: Mapping[str, Any], directory: Path) -> None:
    """Refuse a model of which a part was not in the files: it would be random.

    Args:
        info: What transformers says of loading; what is tied to another weight is not missing.
        directory: Where the weights lie.

    Raises:
        ModelError: naming the tensors.
    """
    missing = sorted(str(name) for name in info["missing_keys"])
    wrong = sorted(
        f"{name} of shape {tuple(got)} instead of {tuple(wanted)}"
        for name, got, wanted in info["mismatched_keys"]
    )
    faults = [f"no {_some(missing)}"] if missing else []
    faults += [_some(part) for part in (wrong, sorted(info["error_msgs"])) if part]
    if faults:
        raise ModelError(
            f"Wanted every weight that {directory / 'config.json'} asks for in the files beside "
            f"it, got {' and '.join(faults)}. Fetch the model again."
        )


def weight_files(directory: Path) -> list[Path]:
    """Return the files that transformers will read.

    Raises:
        ModelError: if there are none, or their index cannot be read or names what is not there.
    """
    if (directory / _WHOLE).is_file():
        return [directory / _WHOLE]
    index = directory / _INDEX
    if not index.is_file():
        raise ModelError(
            f"Wanted {_WHOLE} or {_INDEX} in {directory}, found neither. "
            "Name a directory that `save_pretrained` wrote."
        )
    found = read_json(index)
    shards = found.get("weight_map") if isinstance(found, dict) else None
    names = list(shards.values()) if isinstance(shards, dict) else []
    plain = [n for n in names if isinstance(n, str) and n.endswith(".safetensors")]
    if not names or plain != names or any(Path(name).name != name for name in plain):
        raise ModelError(
            f"Wanted a weight_map in {index} that names *.safetensors files beside it, got "
            f"another. {_AGAIN}"
        )
    return [directory / name for name in sorted(set(plain))]


def _fault_of(name: str, tensor: torch.Tensor) -> str | None:
    """Say what is wrong with a tensor; one that is no weight, such as a mask, may be of any kind."""
    if tensor.dtype not in _KINDS:
        return f"{tensor.dtype} in {name}" if name.endswith(".weight") else None
    return None if bool(torch.isfinite(tensor).all()) else f"NaN or infinity in {name}"


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
