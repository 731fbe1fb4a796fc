"""How a run begins or goes on: its directory, its lock, and the checkpoint that it goes on from.

The first process decides and prepares; the others are told.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from metacog.config import digest
from metacog.config.run import RunConfig
from metacog.telemetry import provenance
from metacog.telemetry.lock import locked
from metacog.telemetry.manifest import verified
from metacog.telemetry.rundir import RunDir, default_name
from metacog.train.processes import Processes
from metacog.train.resume import (
    AUTO,
    Resumption,
    choose,
    is_told_done,
    make_way,
    names_checkpoint,
    note_origin,
    put_back_stop,
    require_processes,
    require_same,
    require_world,
    run_of,
)


@dataclass(frozen=True)
class Beginning:
    """Where a run stands before its first step."""

    run: RunDir
    resumption: Resumption | None = None
    """None for a new run."""
    said: tuple[str, ...] = ()
    """What was noticed before it goes on."""
    is_done: bool = False
    """Whether it has taken its last step already."""
    is_told_done: bool = False
    """Whether nothing that follows the last step is missing either."""


def begin(
    config: RunConfig,
    world: Mapping[str, str],
    processes: Processes,
    held: ExitStack,
    *,
    run_dir: Path | None,
    resume: str | None,
) -> Beginning:
    """Make or open the run's directory, lock it, and choose what the run goes on from.

    Args:
        config: Of the run.
        world: Digests of what it depends on.
        processes: That take part; the directory lies where all of them see it.
        held: Gives the lock back when it ends.
        run_dir: Where the run goes; by default `runs/` and its name.
        resume: A checkpoint, `auto`, or None for a new run.

    Raises:
        ConfigError: If the run would go on under another configuration.
        CheckpointError: If there is nothing whole to go on from, or it belongs to something else.
        RunError: If the directory exists or is in use.
    """
    found = processes.first(
        lambda: _begin(config, world, processes, held, run_dir=run_dir, resume=resume)
    )
    told = processes.gather(None if found is None else _told(found))[0]
    return _read(told) if found is None else found


def _begin(
    config: RunConfig,
    world: Mapping[str, str],
    processes: Processes,
    held: ExitStack,
    *,
    run_dir: Path | None,
    resume: str | None,
) -> Beginning:
    origin = provenance.collect(seed=config.run.seed, config_digest=digest(config))
    name = config.run.name or default_name(config.run.objective.kind, datetime.now().astimezone())
    path = run_dir or Path("runs") / name
    if resume is not None:
        path = run_of(resume, run_dir, config.run.name)
    is_new = resume is None or (resume == AUTO and not path.exists())
    run = RunDir.create(path, config=config, provenance=origin) if is_new else RunDir.open(path)
    held.enter_context(locked(run.lock))
    if resume is None or is_new:  # nothing was done before
        return Beginning(run)
    put_back = put_back_stop(run)
    found = choose(run, resume)
    changed = require_same(run, config, found)
    require_processes(found, processes)
    require_world(found, world)
    is_asked_again = "run.steps" in changed or names_checkpoint(run, resume)
    if run.final.is_dir() and not is_asked_again:
        return Beginning(run, is_done=True, is_told_done=is_told_done(run))
    said = [*put_back, *found.notices, *(f"changed: {key} {how}" for key, how in changed.items())]
    said += make_way(run, found, config)
    said += note_origin(run, origin, found.step)
    return Beginning(run, found, tuple(said))


def _told(found: Beginning) -> dict[str, Any]:
    resumption = found.resumption
    directory = None if resumption is None else resumption.directory
    return {
        "run": str(found.run.path),
        "goes_on": resumption is not None,
        "directory": None if directory is None else str(directory),
        "is_done": found.is_done,
        "is_told_done": found.is_told_done,
    }


def _read(told: Mapping[str, Any]) -> Beginning:
    run, directory = RunDir.open(Path(told["run"])), told["directory"]
    resumption = None
    if directory is not None:
        resumption = Resumption(Path(directory), verified(Path(directory)))
    elif told["goes_on"]:
        resumption = Resumption(None, None)
    is_done, is_told = told["is_done"], told["is_told_done"]
    return Beginning(run, resumption, is_done=is_done, is_told_done=is_told)
