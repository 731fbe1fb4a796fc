"""Bases that are named by their place on the Hugging Face hub."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is re-exported
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from metacog.errors import ModelError

_ID = re.compile(
    r"(?!.*(--|\.\.|\.git$|[-.](/|$)))[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*"
)
"""What the hub allows, of names with an owner."""
_FOLDERS = frozenset(
    [
        "assets",
        "bases",
        "build",
        "checkpoints",
        "data",
        "dist",
        "layers",
        "models",
        "model",
        "nano",
        "nano-adapted",
        "out",
        "output",
        "outputs",
        "recipes",
        "results",
        "runs",
        "saved",
        "src",
        "tmp",
        "work",
    ]
)
_PARTS = re.compile(r"final|stopped|latest|adapter|(checkpoint|step)s?([-_]?\d+)?", re.IGNORECASE)
_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "tokenizer.model"]
_BELOW = ["*/*"]


def is_hub_id(name: str) -> bool:
    """Say whether a name can only be the hub's: `owner/name`, neither part of it as directories here.

    What looks local is never looked up, also where it is missing: a first part that exists or is what
    folders of models are called, or a second one that a run writes.
    """
    owner, _, model = name.partition("/")
    looks_local = owner.lower() in _FOLDERS or bool(_PARTS.fullmatch(model))
    return bool(_ID.fullmatch(name)) and not looks_local and not Path(owner).exists()


def cached(name: str, *, revision: str | None = None) -> Path | None:
    """Return where a model of the hub lies on this machine; None where it does not, or not all of it."""
    try:
        found = _snapshot(name, revision, only_here=True)
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return found if any(found.glob("*.safetensors")) else None


def fetched(name: str) -> Path:
    """Return where a model of the hub lies on this machine; only what is not here yet is read.

    Naming it is the permission. Settings, tokenizer and safetensors are read: no code, no pickle. A
    newer version is not looked for, so a base stays what its layer was trained on.

    Raises:
        ModelError: If it is not here, and cannot be read or may not be (`HF_HUB_OFFLINE=1`).
    """
    here = cached(name)
    if here is not None:
        return here
    try:
        return _snapshot(name, None, only_here=False)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, HTTPError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"Wanted the model {name} from the hub, as there is no such directory, but it cannot be "
            f"read: {first} Check the name and the network, or put the model into a directory and "
            "name that."
        ) from error


def _snapshot(name: str, revision: str | None, *, only_here: bool) -> Path:
    return Path(
        snapshot_download(
            name,
            revision=revision,
            local_files_only=only_here,
            allow_patterns=_FILES,
            ignore_patterns=_BELOW,
        )
    )
