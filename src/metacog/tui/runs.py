"""The runs of a directory, as far as a short look tells."""

from dataclasses import dataclass
from pathlib import Path

from metacog.telemetry.lock import holder
from metacog.telemetry.rundir import RunDir


@dataclass(frozen=True)
class Listed:
    """One run."""

    run: RunDir
    changed: float
    """When its events, or else its directory, last changed; seconds since the epoch."""
    pid: int | None
    """Of the process that trains in it, if one does."""
    is_finished: bool
    """Whether it has come to its end."""

    @property
    def word(self) -> str:
        """How it is, in one word with its sign."""
        if self.pid is not None:
            return "● training"
        if self.is_finished:
            return "● done"
        return "■ stopped" if self.run.stopped.is_dir() else "✖ ended"


def list_runs(directory: Path) -> list[Listed]:
    """Return the runs right below a directory, those that train first, then the newest."""
    if not directory.is_dir():
        return []
    found = [
        _listed(RunDir(path.parent.absolute())) for path in directory.glob("[!.]*/config.yaml")
    ]
    return sorted(found, key=lambda listed: (listed.pid is None, -listed.changed))


def _listed(run: RunDir) -> Listed:
    place = run.events if run.events.is_file() else run.path
    return Listed(run, place.stat().st_mtime, holder(run.lock), run.final.is_dir())
