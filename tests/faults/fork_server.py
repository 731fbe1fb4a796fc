"""Starts `metacog` over and over in processes of its own, without the seconds that importing takes.

It imports everything once, then forks for each command that comes as a line of JSON on stdin. A child
is a real process that can be killed, limited and signalled. `processes.Trainer` is the other end.
"""

import ctypes
import errno
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import torch._dynamo.config  # noqa: F401 - what a run would import
from transformers import AutoModelForCausalLM, AutoTokenizer

from metacog.cli import operating  # noqa: F401
from metacog.cli.main import app
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.questions import draw
from metacog.train.checkpoint import Keeper

SYSTEM_CALLS = frozenset(
    {"write", "fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "chmod", "ftruncate"}
)
"""What changes a disk: functions of Python's own that each are one system call."""

SAVE = Keeper.checkpoint.__code__


class Killer:
    """A profiler that kills its process after the n-th system call of its second save."""

    def __init__(self, count: int) -> None:
        self.count, self.seen, self.saves, self.is_saving = count, 0, 0, False

    def __call__(self, frame: Any, event: str, function: Any) -> None:
        if frame.f_code is SAVE and event in {"call", "return"}:
            self.is_saving = event == "call"
            self.saves += self.is_saving
        elif event == "c_return" and self.is_saving and self.saves == 2:
            self.seen += function.__name__ in SYSTEM_CALLS
            if self.seen == self.count:
                os.kill(os.getpid(), signal.SIGKILL)


class BrokenDisk:
    """Takes the place of `os.fsync`: some calls into the second save it fails, and goes on failing.

    It is told of saves by their calls, as `Killer` is.
    """

    def __init__(self, count: int) -> None:
        self.left, self.saves, self.is_saving = count, 0, False
        self.sound = os.fsync

    def __call__(self, frame: Any, event: str, _function: Any) -> None:
        if frame.f_code is SAVE and event in {"call", "return"}:
            self.is_saving = event == "call"
            self.saves += self.is_saving

    def fsync(self, descriptor: int) -> None:
        if self.is_saving and self.saves == 2:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.sound(descriptor)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


def obey_permissions() -> None:
    """Give up what lets root write where permissions forbid it: CAP_DAC_OVERRIDE and _READ_SEARCH."""
    library = ctypes.CDLL(None, use_errno=True)
    header, data = _Header(0x20080522, 0), (_Data * 2)()
    assert library.capget(ctypes.byref(header), data) == 0, "the capabilities are known"
    data[0].effective &= ~0b110
    assert library.capset(ctypes.byref(header), data) == 0, "fewer of them are always allowed"


def child(command: Mapping[str, Any]) -> None:
    """Run one command and end."""
    for name, number in (("out", 1), ("err", 2)):
        file = os.open(command[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(command["cwd"])
    os.environ.update(command["environment"])
    if command["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (command["largest_file"],) * 2)
    if command["obeys"]:
        obey_permissions()
    if command["fails_after"] is not None:
        disk = BrokenDisk(command["fails_after"])
        os.fsync = disk.fsync
        sys.setprofile(disk)
    killer = Killer(command["kill_after"] or 0)
    if command["kill_after"] is not None:
        sys.setprofile(killer)
    code = 1
    try:
        app(args=command["arguments"], prog_name="metacog")
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.setprofile(None)
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        if killer.seen:
            sys.stderr.write(f"{killer.seen} system calls in the second save\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def say(**values: object) -> None:
    sys.stdout.write(f"{json.dumps(values)}\n")
    sys.stdout.flush()


def main(base: str) -> None:
    """Serve until stdin ends."""
    AutoTokenizer.from_pretrained(base, local_files_only=True)
    AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    for family in FAMILIES:
        draw(family, 0, 0)
    say(ready=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "wait" in command:
            _, status = os.waitpid(command["wait"], 0)
            say(code=os.waitstatus_to_exitcode(status))
            continue
        pid = os.fork()
        if pid == 0:
            child(command)
        say(pid=pid)


if __name__ == "__main__":
    main(sys.argv[1])
