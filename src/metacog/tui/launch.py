"""Starts training as a process of its own that nothing here holds on to."""

import os
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

from metacog.config import RunConfig, digest
from metacog.errors import RunError
from metacog.telemetry import provenance
from metacog.telemetry.attempt import Attempt, trainer_of
from metacog.telemetry.lock import holder
from metacog.telemetry.rundir import RunDir, default_name
from metacog.tui.runs import end_of


def new_run(config: RunConfig, runs: Path) -> RunDir:
    """Make the directory of a new run with an explicit copy of its configuration.

    Raises:
        RunError: If the directory exists, or nothing can be made there.
    """
    kept = config.model_copy(deep=True)
    name = kept.run.name or default_name(kept.run.objective.kind, datetime.now().astimezone())
    path = runs / name
    origin = provenance.collect(
        seed=kept.run.seed, config_digest=digest(kept), argv=command(RunDir(path.absolute()))
    )
    return RunDir.create(path, config=kept, provenance=origin)


def command(run: RunDir) -> list[str]:
    """Return the command that trains what a run's directory says, or goes on with it."""
    python = [sys.executable, "-m", "metacog", "train", str(run.config)]
    return [*python, "--run-dir", str(run.path), "--resume", "auto"]


def resume(run: RunDir) -> int:
    """Start a process that goes on with a run, and return it.

    Raises:
        RunError: If the run trains or has come to its end, or no process or log can be made.
    """
    if (pid := holder(run.lock) or trainer_of(run)) is not None:
        raise RunError(
            f"Wanted to go on with {run.name}, but process {pid} trains it. Open it, or stop it first."
        )
    if end_of(run) == "done":
        raise RunError(
            f"Wanted to go on with {run.name}, but it has come to its end. Fork it to train anew."
        )
    return start(run)


def start(run: RunDir) -> int:
    """Start the training of a run and return its process; its streams go to files of the run.

    The process leads a session of its own, so that no end of ours is its end.

    Raises:
        RunError: If no process or log can be made.
    """
    attempt = Attempt.next(run)
    try:
        with attempt.streams() as (out, err):
            child = subprocess.Popen(
                command(run),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env={**os.environ, "NO_COLOR": "1"},
            )
            attempt.note(child.pid)
    except OSError as error:
        raise RunError(
            f"Wanted to start training in {run.path}, but {error}. Free what is missing and resume."
        ) from error
    # Whoever waits for a child takes its place in the process table away.
    threading.Thread(target=child.wait, daemon=True, name="reaper").start()
    return child.pid
