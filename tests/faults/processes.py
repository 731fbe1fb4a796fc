"""Runs of `metacog` that are killed, starved and signalled, and what is left of them."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path

import yaml

from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events

SERVER = Path(__file__).with_name("fork_server.py")
BELOW_A_CHECKPOINT = 6_000
"""Bytes of a file: more than the run's own take, less than its tensors."""
_NUMBERS = count()
_TIMED = "perf/"
"""Metrics that are never the same twice."""


@dataclass
class Process:
    """One command, as long as it runs and after."""

    pid: int
    out: Path
    err: Path
    wait: Callable[[], int] = field(repr=False)

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    @property
    def said(self) -> str:
        """What it has written on stderr."""
        return self.err.read_text(encoding="utf-8")


class Trainer:
    """The near end of `fork_server.py`."""

    def __init__(self, base: Path, directory: Path) -> None:
        self.base, self._directory = base, directory
        self._server = subprocess.Popen(
            [sys.executable, str(SERVER), str(base)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"},
        )
        assert self._answer() == {"ready": True}

    def start(
        self,
        *arguments: str,
        kill_after: int | None = None,
        largest_file: int | None = None,
        fails_after: int | None = None,
        obeys: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Start `metacog` and return at once.

        Args:
            arguments: Of the command line.
            kill_after: System calls of its second save, after which it is killed.
            largest_file: Bytes beyond which writing fails, as on a disk that is full.
            fails_after: Calls of fsync in its second save, after which each fails with EIO until the
                save is over, as on a disk that is broken.
            obeys: Whether permissions bind it, also where it runs as root.
            environment: Variables beside its own.
        """
        number = next(_NUMBERS)
        out, err = (self._directory / f"{number}.{name}" for name in ("out", "err"))
        answer = self._ask(
            arguments=arguments,
            out=str(out),
            err=str(err),
            cwd=str(self._directory),
            kill_after=kill_after,
            largest_file=largest_file,
            fails_after=fails_after,
            obeys=obeys,
            environment=dict(environment or {}),
        )
        pid = int(str(answer["pid"]))
        return Process(pid, out, err, lambda: int(str(self._ask(wait=pid)["code"])))

    def launch(self, *arguments: str, strategy: str, size: int = 2) -> list[Process]:
        """Start `metacog` as so many processes that train together, as `accelerate launch` does."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        fsdp = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
        common = {
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            **(fsdp if strategy == "fsdp2" else {}),
        }
        return [
            self.start(
                *arguments, environment={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            )
            for rank in range(size)
        ]

    def run_together(self, *arguments: str, strategy: str) -> tuple[list[int], str]:
        """Run `metacog` as two processes to their end; return exit codes, and what both wrote."""
        processes = self.launch(*arguments, strategy=strategy)
        codes = [process.wait() for process in processes]
        return codes, "\n".join(process.said for process in processes)

    def run(self, *arguments: str, **limits: int | None) -> tuple[int, str]:
        """Run `metacog` to its end; return its exit code and what it wrote on stderr."""
        process = self.start(*arguments, **limits)
        return process.wait(), process.said

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._server.stdout.close()

    def _ask(self, **command: object) -> Mapping[str, object]:
        assert self._server.stdin is not None
        self._server.stdin.write(f"{json.dumps(command)}\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> Mapping[str, object]:
        assert self._server.stdout is not None
        found: Mapping[str, object] = json.loads(self._server.stdout.readline())
        return found


def imitation(base: Path) -> dict[str, object]:
    """A recipe whose steps take milliseconds, with a gate whose noise is random and a running mean."""
    return {
        "model": {"path": str(base)},
        "data": {"tasks": ["chain_sum", "count_bits"], "num_prompts": 24},
        "metacog": {"proj_dim": 8},
        "adaptation": {"enabled": True, "mode": "ln_only", "last_k": 1},
        "budget": {"min_tokens": 1, "max_tokens": 24, "answer_reserve": 8},
        "logging": {"sinks": ["jsonl"]},
        "run": {
            "steps": 20,
            "batch": 2,
            "grad_accum": 2,
            "eval_interval": 20,
            "save_interval": 5,
            "warmup": 0,
            "ema": 0.9,
            "objective": {"kind": "imitate", "cut_after": 4},
        },
    }


def written(document: Mapping[str, object], path: Path) -> Path:
    path.write_text(yaml.safe_dump(dict(document)), encoding="utf-8")
    return path


def contents(directory: Path) -> dict[str, str]:
    """Return the digest of every file below a directory."""
    return {
        path.relative_to(directory).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def told(run: Path) -> list[tuple[int, dict[str, object]]]:
    """Return the metrics and evaluations of a run by step, without those that depend on the clock."""
    return [
        (event.step, {k: v for k, v in event.data.items() if not k.startswith(_TIMED)})
        for event in read_events(run / "events.jsonl")
        if event.kind in {EventKind.METRICS, EventKind.EVAL}
    ]


def wait_until(is_so: Callable[[], bool], *, seconds: float = 60) -> None:
    """Wait for something to be so; fail if it is not in time."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.005)


@contextmanager
def room_of(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a disk does that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
