"""The seal of a checkpoint: what each of its files holds, and for which run and step it was made."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metacog.errors import CheckpointError
from metacog.telemetry.files import sha256_file, write_text

MANIFEST_NAME = "manifest.json"
STATE_NAME = "state.json"
"""All of a run's state that is no tensor."""

_NAMED = re.compile(r"checkpoint-(\d+)")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """What `manifest.json` holds."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )

    format_version: Literal[1] = 1
    step: int
    """Optimizer steps that were done."""
    essence: Sha256
    """Digest of the settings that change the result."""
    world: dict[str, Sha256]
    """Digests of what the run reads from elsewhere: base, tokenizer, layer, collected data."""
    processes: str = "1"
    """How many processes trained, and how, such as `2 ddp`."""
    files: dict[str, Sha256]
    """Digest of every other file of the checkpoint, by its path below it."""

    @property
    def contents(self) -> dict[str, Any]:
        """All of this as JSON values; one process alone is not mentioned."""
        return self.model_dump(
            mode="json", exclude={"processes"} if self.processes == "1" else None
        )

    @property
    def digest(self) -> str:
        """The sha256 of all of this, in hexadecimal."""
        canonical = json.dumps(self.contents, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def seal(
    directory: Path,
    *,
    step: int,
    essence: str,
    world: Mapping[str, str],
    processes: str = "1",
) -> Manifest:
    """Write the manifest of a directory that holds everything else already."""
    files = {name: sha256_file(directory / name) for name in _files_of(directory)}
    manifest = Manifest(
        step=step, essence=essence, world=dict(world), processes=processes, files=files
    )
    write_text(directory / MANIFEST_NAME, _text(manifest))
    return manifest


def is_checkpoint(directory: Path) -> bool:
    """Say whether a directory is a checkpoint, or what is left of one."""
    return any((directory / name).is_file() for name in (MANIFEST_NAME, STATE_NAME))


def verified(directory: Path) -> Manifest:
    """Return a checkpoint's manifest if every file is there and holds what it says.

    Raises:
        CheckpointError: Naming each file that is missing, changed or not accounted for.
    """
    manifest = _read(directory / MANIFEST_NAME)
    there = set(_files_of(directory))
    faults = [f"{name} is missing" for name in sorted(manifest.files.keys() - there)]
    faults += [f"{name} is not in the manifest" for name in sorted(there - manifest.files.keys())]
    faults += [
        f"{name} holds something else than was saved"
        for name in sorted(there & manifest.files.keys())
        if sha256_file(directory / name) != manifest.files[name]
    ]
    named = _NAMED.fullmatch(directory.name)
    if named is not None and int(named[1]) != manifest.step:
        faults.append(f"{MANIFEST_NAME} is that of step {manifest.step}")
    if faults:
        raise CheckpointError(
            f"Wanted a whole checkpoint in {directory}, but {'; '.join(faults)}. Use another one: "
            "`--resume auto` takes the newest that is whole."
        )
    return manifest


def _read(path: Path) -> Manifest:
    again = "Use another checkpoint: `--resume auto` takes the newest that is whole."
    try:
        content = path.read_bytes()
        record = json.loads(content)
        del record["sha256"]
        manifest = Manifest.model_validate(record)
    except (OSError, ValueError, KeyError, TypeError) as error:
        fault = "it is malformed" if isinstance(error, ValidationError) else error
        raise CheckpointError(
            f"Wanted a checkpoint's manifest in {path}, but {fault}. {again}"
        ) from error
    if content != _text(manifest).encode():
        raise CheckpointError(
            f"Wanted {path} as it was saved, but it holds something else. {again}"
        )
    return manifest


def _text(manifest: Manifest) -> str:
    """Return what a manifest's file holds, to the byte: itself and its own digest."""
    record = {**manifest.contents, "sha256": manifest.digest}
    return f"{json.dumps(record, indent=2)}\n"


def _files_of(directory: Path) -> list[str]:
    return sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if not path.is_dir() and path != directory / MANIFEST_NAME
    )
