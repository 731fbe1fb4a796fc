"""What a run collects before its first step, kept so that going on never collects it again.

Rollouts and their labels take the longest part of some runs. Each is written once, and read back
only if it holds what was written, for the same model.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from metacog.errors import CheckpointError
from metacog.records import Generation
from metacog.telemetry.files import sha256_file, write_bytes, write_json
from metacog.telemetry.rundir import RunDir
from metacog.train.features import Features
from metacog.train.processes import ALONE, Processes

_INDEX = "index.json"
_REPLIES = TypeAdapter(list[Generation])


@dataclass(frozen=True)
class Collected:
    """The files in `features/` of one run."""

    run: RunDir
    world: str
    """Digest of the base, tokenizer and layer that they come from."""
    processes: Processes = ALONE
    """Of which the first collects; all read the same files."""

    def features(self, name: str, collect: Callable[[], Features]) -> Features:
        """Return features that an earlier process kept, or collect and keep them."""
        path = self.run.features / f"{name}.safetensors"
        found = self.processes.first(lambda: self._features(path, collect))
        return Features.load(path) if found is None else found

    def _features(self, path: Path, collect: Callable[[], Features]) -> Features:
        if self._is_kept(path):
            return Features.load(path)
        found = collect()
        found.save(path)
        self._note(path)
        return found

    def replies(
        self, name: str, collect: Callable[[], Sequence[Generation]]
    ) -> Sequence[Generation]:
        """Return replies that an earlier process kept, or collect and keep them."""
        path = self.run.features / f"{name}.json"
        found = self.processes.first(lambda: self._replies(path, collect))
        return _REPLIES.validate_json(path.read_bytes()) if found is None else found

    def _replies(
        self, path: Path, collect: Callable[[], Sequence[Generation]]
    ) -> Sequence[Generation]:
        if self._is_kept(path):
            return _REPLIES.validate_json(path.read_bytes())
        found = list(collect())
        write_bytes(path, _REPLIES.dump_json(found))
        self._note(path)
        return found

    def digests(self) -> dict[str, str]:
        """Return the sha256 of each file that was kept, by its path in the run."""
        return {f"{self.run.features.name}/{n}": d for n, d in self._index()["files"].items()}

    def _is_kept(self, path: Path) -> bool:
        """Say whether a file was kept for this model.

        Raises:
            CheckpointError: If it is not what was kept.
        """
        index = self._index()
        wanted = index["files"].get(path.name)
        if wanted is None or not path.is_file():
            return False
        if index["world"] == self.world and sha256_file(path) == wanted:
            return True
        fault = (
            "is damaged"
            if index["world"] == self.world
            else "comes from another base, tokenizer or layer"
        )
        raise CheckpointError(
            f"Wanted {path} as the run collected it, but it {fault}. "
            f"Remove {path.parent} to have it collected again."
        )

    def _note(self, path: Path) -> None:
        files = {**self._index()["files"], path.name: sha256_file(path)}
        write_json(self.run.features / _INDEX, {"world": self.world, "files": files})

    def _index(self) -> dict[str, Any]:
        path = self.run.features / _INDEX
        if not path.is_file():
            return {"world": self.world, "files": {}}
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())
        except ValueError as error:
            raise CheckpointError(
                f"Wanted the list of what a run collected in {path}, but {error}. "
                f"Remove {path.parent} to have it collected again."
            ) from error
        return found
