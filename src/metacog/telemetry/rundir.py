"""A run's directory: made once, never overwritten, and explaining itself."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from metacog.config import RunConfig, dump, load
from metacog.errors import InputError
from metacog.telemetry.files import new_directory, write_json, write_text
from metacog.telemetry.provenance import Provenance


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
            RunError: If `path` exists already.
        """
        with new_directory(path) as temporary:
            made = cls(temporary)
            write_text(made.config, dump(config))
            write_json(made.provenance, provenance.as_json())
            made.logs.mkdir()
            made.report.mkdir()
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

    def checkpoint(self, step: int) -> Path:
        """Return the directory of the checkpoint of a step."""
        return self.path / f"checkpoint-{step}"

    def load_config(self) -> RunConfig:
        """Return the configuration that the run was started with."""
        return load(self.config)
