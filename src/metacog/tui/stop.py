"""The ladder by which a run is stopped: asked, ended at once, killed."""

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

_SIGTERM = 1 << (signal.SIGTERM - 1)


@dataclass
class Ladder:
    """Remembers which rung a process is on; another process starts at the bottom.

    A process that was asked by someone else, or before the cockpit was opened, is on the second.
    """

    said: str | None = None
    """What was done last, and what the next rung does."""
    _pid: int | None = field(default=None, repr=False)
    _rung: int = field(default=0, repr=False)

    def step(self, pid: int | None) -> None:
        """Take the next rung for a process, or say that there is none."""
        if pid is None:
            self.said = "No process trains in this run's directory; there is nothing to stop."
            return
        before = self._rung if pid == self._pid else 0
        self._rung = max(before, int(was_asked(pid))) + 1
        self._pid = pid
        self._try(pid)

    def kill(self, pid: int) -> None:
        """Take the last rung at once."""
        self._pid, self._rung = pid, 3
        self._try(pid)

    def _try(self, pid: int) -> None:
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


def was_asked(pid: int) -> bool:
    """Say whether a process that trains has been asked to stop: it then no longer catches SIGTERM.

    Where the system does not tell, no.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    masks = {
        name: int(mask, 16)
        for name, _, mask in (line.partition(":") for line in lines)
        if name in {"SigCgt", "SigIgn", "SigPnd", "ShdPnd"}
    }
    is_pending = (masks["SigPnd"] | masks["ShdPnd"]) & _SIGTERM
    return bool(is_pending) or not (masks["SigCgt"] | masks["SigIgn"]) & _SIGTERM


def _kill(pid: int) -> None:
    """Kill a process, and its group where it leads one of its own."""
    if os.getpgid(pid) == pid:
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)
