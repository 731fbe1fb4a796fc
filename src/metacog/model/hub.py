"""Bases that are named by their place on the Hugging Face hub."""

import re
from pathlib import Path

import httpx
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from metacog.errors import ModelError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LOCAL = frozenset({"runs", "model", "models"})
"""First parts of names that mean a directory, also where it is missing."""
_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "tokenizer.model"]
_FOLDERS = ["*/*"]


def is_hub_id(name: str) -> bool:
    """Say whether a name can only be the hub's: `owner/name`, its first part no directory here."""
    owner = name.partition("/")[0]
    return bool(_ID.fullmatch(name)) and owner not in _LOCAL and not Path(owner).exists()


def fetched(name: str) -> Path:
    """Return where a model of the hub lies on this machine; what is not here yet is read.

    Naming it is the permission. Only settings, tokenizer and safetensors are read: no code, no pickle.

    Raises:
        ModelError: If it is not here, and cannot be read or may not be (`HF_HUB_OFFLINE=1`).
    """
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES, ignore_patterns=_FOLDERS))
    except (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        httpx.HTTPError,
    ) as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"Wanted the model {name} from the hub, as there is no such directory, but it cannot be "
            f"read: {first} Check the name and the network, or put the model into a directory and "
            "name that."
        ) from error
