"""The runs of a directory, as far as a short look tells."""

import stat
from dataclasses import dataclass
from pathlib import Path

from metacog.errors import InputError
from metacog.telemetry.attempt import trainer_of
from metacog.telemetry.events import EventKind
from metacog.telemetry.lock import holder
from metacog.telemetry.reader import last_of
from metacog.telemetry.rundir import RunDir
from metacog.tui.state import RunState

_WORDS = {"done": "● done", "stopped": "■ stopped", None: "✖ crashed"}


@dataclass(frozen=True)
class Listed:
    """One run."""

    run: RunDir
    changed: float
    """When its events, or else its directory, last changed; seconds since the epoch."""
    pid: int | None
    """Of the process that trains in it, if one does."""
    end: str | None = None
    """How it ended, `done` or `stopped`; None while a process trains, or where it ended without a word."""
    trouble: str | None = None
    """Why its directory cannot be read."""

    @property
    def word(self) -> str:
        """How it is, in one word with its sign."""
        if self.pid is not None:
            return "● training"
        return "✖ no access" if self.trouble is not None else _WORDS[self.end]


def list_runs(directory: Path) -> list[Listed]:
    """Return the runs right below a directory, those that train first, then the newest.

    One that cannot be read is listed with the reason.

    Raises:
        InputError: If the directory itself cannot be read.
    """
    try:
        below = [place for place in directory.iterdir() if not place.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"Wanted the runs in {directory}, but it cannot be read: {error.strerror}. "
            "Mend that, or open the cockpit in another directory."
        ) from error
    found = [listed for place in below if (listed := _listed(RunDir(place.absolute())))]
    return sorted(found, key=lambda listed: (listed.pid is None, -listed.changed))


def _listed(run: RunDir) -> Listed | None:
    """Return a run as far as it can be read; None where there is none."""
    changed = 0.0
    try:
        changed = run.path.stat().st_mtime
        if not stat.S_ISREG(run.config.stat().st_mode):
            return None
        if run.events.is_file():
            changed = run.events.stat().st_mtime
        pid = holder(run.lock) or trainer_of(run)
        return Listed(run, changed, pid, None if pid else end_of(run))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Listed(run, changed, None, trouble=error.strerror or str(error))


def end_of(run: RunDir) -> str | None:
    """Return how a run ended: its log's last word, as the dashboard has it; without a log, what it saved."""
    if not run.events.is_file() or not run.events.stat().st_size:
        return "done" if run.final.is_dir() else "stopped" if run.stopped.is_dir() else None
    state, last = RunState(), last_of(run.events, {EventKind.STATUS, EventKind.CONFIG})
    state.take(() if last is None else [last])
    return state.end
