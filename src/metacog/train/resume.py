"""Where a run goes on: the newest checkpoint that is whole and belongs to it, and what is in its way."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from metacog.config import RunConfig, dump
from metacog.config.compare import changes_result, differences, essence
from metacog.errors import CheckpointError, ConfigError
from metacog.telemetry.events import EventKind
from metacog.telemetry.files import write_json, write_text
from metacog.telemetry.manifest import MANIFEST_NAME, Manifest, verified
from metacog.telemetry.provenance import Provenance
from metacog.telemetry.reader import read_events
from metacog.telemetry.rewind import rewind
from metacog.telemetry.rundir import RunDir
from metacog.train.processes import Processes

AUTO = "auto"


@dataclass(frozen=True)
class Resumption:
    """What a run goes on from, and what was noticed on the way."""

    directory: Path | None
    """A whole checkpoint; None where there is none, and the run begins again."""
    manifest: Manifest | None
    notices: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """Steps that were done."""
        return 0 if self.manifest is None else self.manifest.step


def run_of(resume: str, run_dir: Path | None, name: str | None) -> Path:
    """Return the directory of the run that is to go on.

    Raises:
        ConfigError: If nothing says which run is meant, or two things say another.
    """
    if resume != AUTO:
        path = Path(resume).absolute()
        path = path if (path / "config.yaml").is_file() else path.parent
        if run_dir is not None and run_dir.resolve() != path.resolve():
            raise ConfigError(
                f"--resume {resume} wanted the run in {path}, but --run-dir names {run_dir}. A run goes "
                "on where it is: leave out --run-dir."
            )
        return path
    if run_dir is None and name is None:
        raise ConfigError(
            "--resume auto wanted to know which run, but the recipe gives it no name (run.name). "
            "Name its directory with --run-dir."
        )
    return run_dir or Path("runs") / str(name)


def has_begun(resume: str | None, run_dir: Path | None, name: str | None) -> bool:
    """Say whether a run goes on that has been under way before.

    Raises:
        ConfigError: If nothing says which run is meant, or two things say another.
    """
    return resume is not None and RunDir(run_of(resume, run_dir, name)).events.is_file()


def names_checkpoint(run: RunDir, resume: str) -> bool:
    """Say whether one checkpoint is meant, not the newest of the run."""
    return resume != AUTO and Path(resume).absolute() != run.path


def choose(run: RunDir, resume: str) -> Resumption:
    """Return the checkpoint to go on from: the one that is named, or the newest that is whole.

    Raises:
        CheckpointError: If the named one is damaged, or there are some and none is whole.
    """
    if names_checkpoint(run, resume):
        named = Path(resume).absolute()
        return Resumption(named, _named(run, named))
    faults: list[str] = []
    for directory in _newest_first(run):
        try:
            return Resumption(directory, verified(directory), tuple(faults))
        except CheckpointError as error:
            faults.append(f"passed over {directory.name}: {error}")
    if faults:
        raise CheckpointError(
            f"Wanted a whole checkpoint in {run.path}, got none: {' '.join(faults)} "
            "Begin again in another directory."
        )
    return Resumption(None, None, ("no checkpoint yet: from the first step",))


def _named(run: RunDir, directory: Path) -> Manifest:
    try:
        return verified(directory)
    except CheckpointError as error:
        for other in _newest_first(run):
            if other != directory and _is_whole(other):
                raise CheckpointError(f"{error} The newest is {other}.") from error
        raise


def require_same(run: RunDir, config: RunConfig, resumption: Resumption) -> dict[str, str]:
    """Refuse to go on under settings that make another run; return the harmless ones that differ.

    Raises:
        ConfigError: Naming each key, what it was and what it is.
        CheckpointError: If the checkpoint was saved under settings that the run does not have.
    """
    changed = differences(run.load_config(), config)
    broken = [
        f"{key} was {before!r} and is {after!r}"
        for key, (before, after) in changed.items()
        if changes_result(key, before, after)
    ]
    if broken:
        raise ConfigError(
            f"The run in {run.path} cannot go on under other settings: {'; '.join(broken)}. "
            "Set them back, or start another run."
        )
    if resumption.manifest is not None and resumption.manifest.essence != essence(config):
        raise CheckpointError(
            f"{resumption.directory} was saved under other settings than {run.config} has. "
            "Set that file back to what it was."
        )
    return {key: f"{before!r} -> {after!r}" for key, (before, after) in changed.items()}


def require_processes(resumption: Resumption, processes: Processes) -> None:
    """Refuse to go on with another number of processes, or another way of sharing what is learned.

    Each has data, noise and rollouts of its own, which others cannot go on with.

    Raises:
        CheckpointError: Saying with what the run began, and with what it would go on.
    """
    if resumption.manifest is not None and resumption.manifest.processes != processes.told:
        raise CheckpointError(
            f"{resumption.directory} was saved by a run on {resumption.manifest.processes} "
            f"process(es), and would go on with {processes.told}. Launch as many as before in the "
            "same way, or start another run."
        )


def require_world(resumption: Resumption, world: Mapping[str, str]) -> None:
    """Refuse to go on where a base, tokenizer, layer or collected data is another than it was.

    Raises:
        CheckpointError: Naming each.
    """
    if resumption.manifest is None:
        return
    before = resumption.manifest.world
    changed = [
        f"{name} was {_short(before[name])} and is {_short(world[name])}"
        for name in sorted(before.keys() & world.keys())
        if before[name] != world[name]
    ]
    if changed:
        raise CheckpointError(
            f"{resumption.directory} cannot go on with what is there now: {'; '.join(changed)} "
            "(sha256). Put back what the run started from, or start another run."
        )


def is_told_done(run: RunDir) -> bool:
    """Say whether a run has told that it is done, and has not gone on since.

    `final/` comes before that: what follows the last step may still be missing where it is there.
    """
    if not run.events.is_file():
        return False
    told = [event for event in read_events(run.events) if event.kind is EventKind.STATUS]
    return bool(told) and told[-1].data.get("message") == "done"


def put_back_stop(run: RunDir) -> list[str]:
    """Put back the last stop where a kill came between moving it away and the next one; say so."""
    is_lost = run.latest.is_file() and not run.stopped.exists()
    if not is_lost or run.latest.read_text(encoding="utf-8").strip() != run.stopped.name:
        return []
    moved = (run.path / "superseded").glob(f"{run.stopped.name}-*")
    last = max(moved, key=lambda path: _step_of(path) or 0, default=None)
    if last is None:
        return []
    last.rename(run.stopped)
    return [f"put back {_below(run, last)}: the stop after it was never finished"]


def make_way(run: RunDir, resumption: Resumption, config: RunConfig) -> list[str]:
    """Take out of a run's way what lies behind the step that it goes on from; say what was done.

    Half-written files are removed. Nothing whole is: later checkpoints, and what an earlier end of
    the run saved, go to `superseded/`, and later events to `logs/`.
    """
    said = []
    for path in run.leftovers():
        said.append(f"removed {path.name}, which was never finished")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    later = [d for d in _newest_first(run) if d != resumption.directory]
    later = [d for d in later if _step_of(d) is None or (_step_of(d) or 0) >= resumption.step]
    if run.final.exists():
        later.append(run.final)
    said += [f"set aside {path.name} as {_below(run, run.set_aside(path))}" for path in later]
    if resumption.directory is not None:
        write_text(run.latest, f"{resumption.directory.name}\n")
    lost = rewind(run.events, resumption.step, kept_in=run.logs)
    said += [f"moved {lost} events of later steps to {run.logs.name}/"] if lost else []
    before = run.load_config()
    if before != config:
        write_text(run.logs / f"config-until-{resumption.step}.yaml", dump(before))
        write_text(run.config, dump(config))
    return said


def note_origin(run: RunDir, origin: Provenance, step: int) -> list[str]:
    """Keep where a run that goes on comes from; say what of it may change the numbers."""
    before = json.loads(run.provenance.read_bytes())
    write_json(run.logs / f"provenance-from-{step}.json", origin.as_json())
    now = origin.as_json()
    old, new = before["versions"], origin.versions
    changed = [
        f"{name} was {old.get(name)} and is {new.get(name)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    changed += [
        f"{key} was {before[key]} and is {now[key]}"
        for key in ("git_sha", "platform")
        if before[key] != now[key]
    ]
    return [f"not bit for bit the same any more: {'; '.join(changed)}"] if changed else []


def _newest_first(run: RunDir) -> Iterator[Path]:
    """Yield all checkpoints, the one of the highest step first; a stop's after one of its step."""
    found = run.checkpoints() + ([run.stopped] if run.stopped.is_dir() else [])
    unknown = 1 << 62
    yield from sorted(
        found, key=lambda p: unknown if (s := _step_of(p)) is None else s, reverse=True
    )


def _step_of(checkpoint: Path) -> int | None:
    """Return the step that a checkpoint is named after, or says; None where it says nothing."""
    digits = checkpoint.name.rpartition("-")[2]
    if digits.isdecimal():
        return int(digits)
    try:
        step = json.loads((checkpoint / MANIFEST_NAME).read_bytes())["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None


def _is_whole(directory: Path) -> bool:
    try:
        verified(directory)
    except CheckpointError:
        return False
    return True


def _below(run: RunDir, path: Path) -> str:
    return path.relative_to(run.path).as_posix()


def _short(digest: str) -> str:
    return digest[:12]
