"""One process at a time in a run's directory.

The system holds the lock and gives it up when its process ends in whatever way, so none is ever
left over. What the file says is for people.
"""

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metacog.errors import RunError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOCKS = Path("/proc/locks")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file until the block ends.

    Raises:
        RunError: If another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"Wanted {path.parent} to be in nobody's hands, but a run goes on there: "
                f"{_holder(path)}. Wait for it or stop it."
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{json.dumps(_myself())}\n".encode())
        yield
    finally:
        os.close(descriptor)


def holder(path: Path) -> int | None:
    """Return the process that holds a lock file on this machine, or None.

    The lock is not touched, so that no process that wants it is ever in the way of a look.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        pid, mine = int(said["pid"]), _myself()
        if said["machine"] != mine["machine"] or said["boot"] != mine["boot"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if _holds_a_lock(pid) else None


def _holds_a_lock(pid: int) -> bool:
    """Say whether a process holds any lock; where the system does not tell, whether it is there."""
    if _LOCKS.is_file():
        lines = _LOCKS.read_text(encoding="ascii").splitlines()
        return any(line.split()[1:5:3] == ["FLOCK", str(pid)] for line in lines)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _myself() -> dict[str, object]:
    boot = _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.is_file() else None
    return {"pid": os.getpid(), "machine": platform.node(), "boot": boot}


def _holder(path: Path) -> str:
    said = path.read_text(encoding="utf-8", errors="replace").strip()
    return said or "its process has not written who it is"
