"""The checks before a run, made by a process of its own, so that none of its libraries are ours."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from metacog.config import RunConfig, dump
from metacog.errors import RunError
from metacog.telemetry.boot import CHECKS, Check, decode

_LAST_WORDS = 400


class Boot:
    """Looks at what a run needs; `checks` waits for the process, so call it off the event loop.

    Args:
        config: Of the run that is to be started.
        runs: Directory in which it will be made.
    """

    def __init__(self, config: RunConfig, runs: Path) -> None:
        self._config, self._runs = config.model_copy(deep=True), runs
        self._child: subprocess.Popen[str] | None = None
        self._guard = threading.Lock()
        self._is_left = False

    def checks(self) -> Iterator[Check]:
        """Yield each check once it is known; the first that is wrong is the last.

        A process that ends before its last check is told as wrong at the check it was at.
        """
        told = 0
        try:
            with tempfile.TemporaryDirectory(prefix="metacog-") as directory:
                recipe = Path(directory) / "config.yaml"
                recipe.write_text(dump(self._config), encoding="utf-8")
                for check in self._run(recipe, Path(directory) / "err.log"):
                    told += 1
                    yield check
        except (OSError, ValueError, RunError) as error:
            if not self._is_left:
                said = f"Wanted to check this run, but {error}. Mend that and start again."
                yield Check(CHECKS[min(told, len(CHECKS) - 1)], False, said)

    def leave(self) -> None:
        """End the process, if it is still at it."""
        with self._guard:
            self._is_left = True
            if self._child is not None and self._child.poll() is None:
                self._child.kill()

    def _run(self, recipe: Path, errors: Path) -> Iterator[Check]:
        """Yield what a process tells, and wait for its end."""
        with errors.open("w", encoding="utf-8") as err:
            with self._guard:
                if self._is_left:
                    return
                self._child = child = subprocess.Popen(
                    [*_COMMAND, str(recipe), "--runs", str(self._runs), "--json"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=err,
                    text=True,
                    env={**os.environ, "NO_COLOR": "1"},
                )
            last: Check | None = None
            with child:
                assert child.stdout is not None
                for line in child.stdout:
                    last = decode(line)
                    yield last
        is_whole = last is not None and (not last.is_right or last.name == CHECKS[-1])
        if child.returncode != 0 and not is_whole:
            words = errors.read_text(encoding="utf-8", errors="replace").strip()[-_LAST_WORDS:]
            raise RunError(f"its process ended with {child.returncode}: {words or 'no word'}")


_COMMAND = (sys.executable, "-m", "metacog", "preflight")
