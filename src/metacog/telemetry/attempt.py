"""One process that was started in a run's directory: its streams, and whether it lives.

Its error stream is locked by whoever starts it, and the process inherits the lock, so that it is
known to live before it has written a word and however it ends.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from metacog.telemetry.rundir import RunDir

_LAST_WORDS = 2_000
"""Bytes of the error stream's end that are looked at."""


@dataclass(frozen=True)
class Attempt:
    """A directory `logs/attempt-N` of a run."""

    path: Path

    @classmethod
    def next(cls, run: RunDir) -> "Attempt":
        """Return the one that is yet to be made."""
        number = 1
        while (path := run.logs / f"attempt-{number}").exists():
            number += 1
        return cls(path)

    @classmethod
    def newest(cls, run: RunDir) -> "Attempt | None":
        """Return the one that was made last, or None where a shell started the run."""
        numbers = [
            int(digits)
            for path in run.logs.glob("attempt-*")
            if (digits := path.name.removeprefix("attempt-")).isdecimal()
        ]
        return cls(run.logs / f"attempt-{max(numbers)}") if numbers else None

    @property
    def err(self) -> Path:
        """What the process wrote on its error stream."""
        return self.path / "err.log"

    @contextmanager
    def streams(self) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """Make the directory and yield the files for a process's streams, the second one locked."""
        self.path.mkdir(parents=True)
        with (self.path / "out.log").open("wb") as out, self.err.open("wb") as err:
            fcntl.flock(err, fcntl.LOCK_EX)
            yield out, err

    def note(self, pid: int) -> None:
        """Write which process it is."""
        (self.path / "pid").write_text(f"{pid}\n", encoding="ascii")

    def pid(self) -> int | None:
        """Return its process while it lives, else None."""
        try:
            with self.err.open("rb") as err:
                fcntl.flock(err, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._noted()
        except OSError:
            return None
        return None

    def last_words(self, *, after: float | None = None) -> str:
        """Return the last line of its error stream, or nothing.

        Args:
            after: Seconds since the epoch; what was written before is none of its last words.
        """
        try:
            if after is not None and self.err.stat().st_mtime < after:
                return ""
            with self.err.open("rb") as err:
                err.seek(-min(_LAST_WORDS, err.seek(0, os.SEEK_END)), os.SEEK_END)
                words = err.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [line for line in words.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""

    def _noted(self) -> int | None:
        try:
            return int((self.path / "pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None


def trainer_of(run: RunDir) -> int | None:
    """Return the process that was started in a run's directory, if it lives, or None."""
    newest = Attempt.newest(run)
    return None if newest is None else newest.pid()
