"""The ladder by which a run is stopped: asked, ended at once, killed."""

import os
import signal
from dataclasses import dataclass, field


@dataclass
class Ladder:
    """Remembers which rung a process is on; another process starts at the bottom."""

    said: str | None = None
    """What was done last, and what the next rung does."""
    _pid: int | None = field(default=None, repr=False)
    _rung: int = field(default=0, repr=False)

    def step(self, pid: int | None) -> None:
        """Take the next rung for a process, or say that there is none."""
        if pid is None:
            self.said = "No process trains in this run's directory; there is nothing to stop."
            return
        self._rung = self._rung + 1 if pid == self._pid else 1
        self._pid = pid
        try:
            self._send(pid)
        except ProcessLookupError:
            self.said = "The process has ended."
        except PermissionError:
            self.said = f"Wanted to stop process {pid}, but it belongs to another user."

    def _send(self, pid: int) -> None:
        if self._rung == 1:
            os.kill(pid, signal.SIGTERM)
            self.said = (
                "Asked to stop: it finishes its step and saves. Again: end at once, unsaved."
            )
        elif self._rung == 2:
            os.kill(pid, signal.SIGTERM)
            self.said = "Told to end at once, without saving. Again: kill it."
        else:
            _kill(pid)
            self.said = "Killed."


def _kill(pid: int) -> None:
    """Kill a process, and its group where it leads one of its own."""
    if os.getpgid(pid) == pid:
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)
