"""A run's directory: made once, never overwritten, and explaining itself."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from metacog.config import RunConfig, dump, load
from metacog.errors import InputError, RunError
from metacog.telemetry.files import new_directory, write_json, write_text
from metacog.telemetry.provenance import Provenance

_MADE_IN_TWO_STEPS = (
    "checkpoint-",
    "stopped.",
    "final.",
    "latest.",
    "config.yaml.",
    "events.jsonl.",
)
"""What has a hidden name until it is whole, or while it is removed."""


def default_name(objective: str, now: datetime) -> str:
    """Return the name of a run that was given none, such as `layer-20250131-174501`."""
    return f"{objective}-{now:%Y%m%d-%H%M%S}"


@dataclass(frozen=True)
class RunDir:
    """Paths inside a run's directory."""

    path: Path

    @classmethod
    def create(cls, path: Path, *, config: RunConfig, provenance: Provenance) -> "RunDir":
        """Make the directory with its configuration and provenance, in full or not at all.

        Raises:
            RunError: If `path` exists already, or cannot be made.
        """
        try:
            with new_directory(path) as temporary:
                made = cls(temporary)
                write_text(made.config, dump(config))
                write_json(made.provenance, provenance.as_json())
                made.logs.mkdir()
                made.report.mkdir()
        except OSError as error:
            raise RunError(
                f"Wanted to create {path}, but {error.strerror or error}. Free what is missing, or "
                "name another directory."
            ) from error
        return cls(path.absolute())

    @classmethod
    def open(cls, path: Path) -> "RunDir":
        """Return the directory of a run that was begun earlier.

        Raises:
            InputError: If there is no run at `path`.
        """
        run = cls(path.absolute())
        if not run.config.is_file():
            raise InputError(
                f"Wanted a run directory with a config.yaml at {run.path}, got none. "
                "Name a directory that `metacog train` made."
            )
        return run

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def provenance(self) -> Path:
        """Command, code, versions, machine, seed."""
        return self.path / "provenance.json"

    @property
    def events(self) -> Path:
        """All that happened, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def samples(self) -> Path:
        """Replies of the model, one JSON object a line."""
        return self.path / "samples.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Directory of TensorBoard's event files, where `logging.sinks` names it."""
        return self.path / "tensorboard"

    @property
    def quarantine(self) -> Path:
        """Malformed rows of the data sets, one JSON object a line; there once one was found."""
        return self.path / "quarantine.jsonl"

    @property
    def logs(self) -> Path:
        """Directory of what the process wrote on its streams."""
        return self.path / "logs"

    @property
    def report(self) -> Path:
        """Directory of the report and its figures."""
        return self.path / "report"

    @property
    def features(self) -> Path:
        """Directory of what was collected before the first step."""
        return self.path / "features"

    @property
    def lock(self) -> Path:
        """Held by the process that trains here."""
        return self.path / "lock"

    @property
    def latest(self) -> Path:
        """Name of the newest checkpoint, as text."""
        return self.path / "latest"

    @property
    def final(self) -> Path:
        """What the run has learned in the end."""
        return self.path / "final"

    @property
    def stopped(self) -> Path:
        """Checkpoint of a run that was asked to stop."""
        return self.path / "stopped"

    def checkpoint(self, step: int) -> Path:
        """Return the directory of the checkpoint of a step."""
        return self.path / f"checkpoint-{step}"

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints saved at their interval, the newest first."""
        found = [path for path in self.path.glob("checkpoint-*") if _step_of(path) is not None]
        return sorted(found, key=lambda path: _step_of(path) or 0, reverse=True)

    def newest_save(self) -> Path | None:
        """Return the newest directory that holds what the run has learned; None before the first."""
        saved = [path for path in (self.final, self.stopped, *self.checkpoints()) if path.is_dir()]
        return max(saved, key=lambda path: path.stat().st_mtime, default=None)

    def set_aside(self, path: Path) -> Path:
        """Move a directory of the run to `superseded/` under a name of its own; return it there."""
        number = 1
        while (there := self.path / "superseded" / f"{path.name}-{number}").exists():
            number += 1
        there.parent.mkdir(exist_ok=True)
        return path.rename(there)

    def leftovers(self) -> list[Path]:
        """Return what a process that was killed left half-written or half-removed."""
        names = (f".{stem}*" for stem in _MADE_IN_TWO_STEPS)
        return sorted(path for name in names for path in self.path.glob(name))

    def load_config(self) -> RunConfig:
        """Return the configuration that the run was started with."""
        return load(self.config)


def _step_of(checkpoint: Path) -> int | None:
    digits = checkpoint.name.removeprefix("checkpoint-")
    return int(digits) if digits.isdecimal() else None
