"""The process that renders strangers' chat templates, as its parent sees it: begun when first needed."""

import atexit
import json
import os
import signal
import sys
from functools import lru_cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import DEVNULL, Popen
from threading import Lock

from metacog.text.template_child import MOST_SECONDS, Asked

_CHILD = Path(__file__).with_name("template_child.py")
_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG")
"""What the child is told of the environment: no token of anybody's."""
_PATIENCE = 120.0
"""Seconds until a child that takes no processor time either is given up."""


class TemplateProcess:
    """Renders one template after another; a child that was ended is followed by a new one."""

    def __init__(self) -> None:
        self._lock, self._owner = Lock(), os.getpid()
        self._child: tuple[Popen[bytes], Connection] | None = None
        atexit.register(self.end)

    def answer(self, asked: Asked) -> dict[str, str]:
        """Return what `template_child.answer` returns, also where the child did not survive it."""
        with self._lock:
            link = self._link()
            try:
                link.send_bytes(json.dumps(asked).encode())
                if link.poll(_PATIENCE):
                    found: dict[str, str] = json.loads(link.recv_bytes())
                    return found
            except (EOFError, OSError):
                pass
            return {"fault": "stopped", "message": self._why_it_ended()}

    @property
    def process_id(self) -> int | None:
        """The child's, or None where there is none."""
        return self._child[0].pid if self._child is not None else None

    def end(self) -> None:
        """End the child, if there is one."""
        if self._child is None or os.getpid() != self._owner:
            return
        process, link = self._child
        link.close()
        process.kill()
        process.wait()
        self._child = None

    def _link(self) -> Connection:
        """Return the way to a child that lives."""
        if self._child is not None and self._child[0].poll() is not None:
            self.end()
        if self._child is None:
            self._child = self._begun()
        return self._child[1]

    def _begun(self) -> tuple[Popen[bytes], Connection]:
        ours, theirs = Pipe()
        # -P: a file beside whoever calls must not stand for a module.
        process = Popen(
            [sys.executable, "-P", str(_CHILD), str(theirs.fileno())],
            stdin=DEVNULL,
            stdout=DEVNULL,
            pass_fds=[theirs.fileno()],
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            start_new_session=True,  # what interrupts its parent does not interrupt it
        )
        theirs.close()
        return process, ours

    def _why_it_ended(self) -> str:
        assert self._child is not None
        process, _ = self._child
        self.end()
        if process.returncode == -signal.SIGPROF:
            return f"it takes more than {MOST_SECONDS:g} seconds of processor time"
        return f"the process that rendered it ended with {process.returncode}"


def template_process() -> TemplateProcess:
    """Return this process's own: one that was begun before a fork belongs to the parent."""
    return _process_of(os.getpid())


@lru_cache(maxsize=1)
def _process_of(_owner: int) -> TemplateProcess:
    return TemplateProcess()
