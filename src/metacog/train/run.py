"""One run from its configuration: checks, directory, events, objective, loop; or its second half."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from metacog.config import cautions, digest
from metacog.config.compare import essence
from metacog.config.objective import Objective as AnyObjective
from metacog.config.objective import PretrainObjective
from metacog.config.run import RunConfig
from metacog.errors import ConfigError, MetacogError, RunStopped
from metacog.model.bundle import MetacogModel, load_model
from metacog.telemetry import provenance
from metacog.telemetry.events import EventKind
from metacog.telemetry.lock import locked
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir, default_name
from metacog.telemetry.sinks import open_sinks, require_sinks
from metacog.train.checkpoint import Keeper, Origin
from metacog.train.checks import refuse_unused
from metacog.train.collected import Collected
from metacog.train.guards import guards_for
from metacog.train.loop import Objective, fit
from metacog.train.prepare import (
    prepare_gate,
    prepare_imitation,
    prepare_layer,
    prepare_own_imitation,
    prepare_practice,
    prepare_rereading,
)
from metacog.train.pretrain import Pretraining
from metacog.train.resume import (
    AUTO,
    Resumption,
    choose,
    make_way,
    note_origin,
    require_same,
    require_world,
    run_of,
)
from metacog.train.stopping import interruptible, stoppable
from metacog.train.text import TextSources, open_sources
from metacog.train.watch import Answering
from metacog.train.world import digest_of_world, world_of

Narrate = Callable[[str], None]
"""Told what happens, in lines for people."""


@dataclass(frozen=True)
class _Job:
    """One process's part of a run."""

    config: RunConfig
    model: MetacogModel | None
    sources: TextSources
    run: RunDir
    narrate: Narrate
    resumption: Resumption | None = None
    """None for a new run."""
    said: tuple[str, ...] = ()
    """What was noticed before it goes on."""
    world: dict[str, str] = field(default_factory=dict)


def train(
    config: RunConfig,
    *,
    run_dir: Path | None = None,
    resume: str | None = None,
    narrate: Narrate = lambda _: None,
) -> RunDir:
    """Train what the configuration says and return the run's directory.

    Args:
        config: Of the run.
        run_dir: Where it goes; by default `runs/` and its name.
        resume: A checkpoint to go on from in the directory of its run; `auto` for the newest whole
            one, or the beginning where there is no run yet; None for a new run.
        narrate: Told what was restored.

    Raises:
        ConfigError: If the objective cannot be run from this configuration, or a run would go on
            under another one.
        ModelError: If there is no such base or layer.
        DataError: If a data set cannot be read. Nothing has been written then, nor before.
        CheckpointError: If there is nothing whole to go on from, or it belongs to something else.
        RunError: If the directory exists or is in use, a loss is not finite, or nothing can be saved.
        RunStopped: If the run was asked to stop.
    """
    config = config.model_copy(deep=True)
    require_sinks(config.logging.sinks)
    model, sources = checked(config)
    world = world_of(model)
    origin = provenance.collect(seed=config.run.seed, config_digest=digest(config))
    name = config.run.name or default_name(config.run.objective.kind, datetime.now().astimezone())
    path = run_dir or Path("runs") / name
    if resume is not None:
        path = run_of(resume, run_dir, config.run.name)
    is_new = resume is None or (resume == AUTO and not path.exists())
    run = RunDir.create(path, config=config, provenance=origin) if is_new else RunDir.open(path)
    with locked(run.lock), interruptible():
        if resume is None or is_new:  # nothing was done before
            return _recorded(_Job(config, model, sources, run, narrate, world=world))
        found = choose(run, resume)
        changed = require_same(run, config, found)
        require_world(found, world)
        if run.final.is_dir() and "run.steps" not in changed:
            narrate(f"{run.path} has come to its end; there is nothing left to do.")
            return run
        said = [*found.notices, *(f"changed: {key} {how}" for key, how in changed.items())]
        said += make_way(run, found, config)
        said += note_origin(run, origin, found.step)
        return _recorded(_Job(config, model, sources, run, narrate, found, tuple(said), world))


def _recorded(job: _Job) -> RunDir:
    """Train with everything recorded, whatever the end is."""
    config, run = job.config, job.run
    sinks = open_sinks(config.logging.sinks, run, num_steps=config.run.steps)
    recorder = Recorder(run.name, sinks)
    start = 0 if job.resumption is None else job.resumption.step
    try:
        recorder.record(EventKind.CONFIG, start, config.model_dump(mode="json"))
        for caution in cautions(config):
            recorder.alert(start, caution)
        steps = _run(job, recorder)
        recorder.record(EventKind.STATUS, steps, {"message": "done", "path": str(run.path)})
    except RunStopped:
        kept = run.stopped if run.stopped.is_dir() else run.path
        status = {"message": "stopped", "path": str(kept)}
        recorder.record(EventKind.STATUS, recorder.step, status)
        raise
    except MetacogError as error:
        recorder.alert(recorder.step, str(error))
        raise
    finally:
        recorder.close()
    return run


def checked(config: RunConfig) -> tuple[MetacogModel | None, TextSources]:
    """Return what a run starts from, nothing being written: its model and its data sets.

    There is no model where the objective makes one of its own, and no data set where questions are
    generated.

    Raises:
        ConfigError: If the objective cannot be run from this configuration.
        ModelError: If there is no such base or layer.
        DataError: If a data set cannot be read or has columns of no known kind.
    """
    model = _checked_model(config)
    return model, [] if config.data.tasks else open_sources(config)


def _run(job: _Job, recorder: Recorder) -> int:
    objective, loop = _objective(job, recorder), job.config.run
    world = {**job.world, **Collected(job.run, digest_of_world(job.world)).digests()}
    keeper = Keeper(objective, loop, job.run, recorder, Origin(essence(job.config), world))
    start = 0
    if job.resumption is not None:
        require_world(job.resumption, world)
        start = _go_on(job, job.resumption, keeper, recorder)
    with stoppable() as stop:
        return fit(
            objective,
            loop,
            run=job.run,
            recorder=recorder,
            start=start,
            keeper=keeper,
            stop=stop,
            guards=guards_for(
                job.config, objective.current() if isinstance(objective, Answering) else None
            ),
        )


def _go_on(job: _Job, resumption: Resumption, keeper: Keeper, recorder: Recorder) -> int:
    """Restore a checkpoint and give the receipt; return the steps that were done."""
    start, restored = 0, list(job.said)
    if resumption.directory is not None:
        start, parts = keeper.load(resumption.directory)
        restored += parts
    source = job.run.path if resumption.directory is None else resumption.directory
    told = f"resumed {source} at step {start} of {job.config.run.steps}"
    job.narrate("\n  ".join([told, *restored]))
    data = {"message": "resumed", "path": str(source), "receipt": restored}
    recorder.record(EventKind.STATUS, start, data)
    return start


def _checked_model(config: RunConfig) -> MetacogModel | None:
    objective = config.run.objective
    refuse_unused(config)
    if isinstance(objective, PretrainObjective):
        return None
    needs_layer, layer = _layer_wanted(objective)
    found = load_model(
        config.model.path,
        layer=layer,
        base_path=config.model.base_path,
        precision=config.model.precision,
    )
    if needs_layer and found.reader is None:
        raise ConfigError(
            f"The objective {objective.kind} goes on from a layer, but {config.model.path} has none. "
            "Train one, then name its directory in run.objective.layer_path."
        )
    blocks, index = len(found.base.blocks), config.feedback.layer
    if index is not None and index >= blocks:
        raise ConfigError(
            f"Wanted feedback.layer below the {blocks} blocks of {config.model.path}, got {index}."
        )
    return found


def _layer_wanted(objective: AnyObjective) -> tuple[bool, Path | None]:
    """Return whether an objective goes on from a layer, and the layer's directory if it names one."""
    match objective.kind:
        case "gate" | "reread" | "practice":
            path = objective.layer_path
        case "imitate" if objective.traces == "own":
            path = objective.layer_path
        case _:
            return False, None
    return True, Path(path) if path else None


def _objective(job: _Job, recorder: Recorder) -> Objective[Any, Any]:
    """Return what the run trains, with all that it learns from."""
    config, model, run = job.config, job.model, job.run
    objective = config.run.objective
    if isinstance(objective, PretrainObjective):
        return Pretraining(config, objective)
    assert model is not None
    match objective.kind:
        case "layer":
            return prepare_layer(config, objective, model, run, recorder)
        case "gate":
            return prepare_gate(config, objective, model, run, recorder)
        case "reread":
            return prepare_rereading(config, objective, model, run, recorder)
        case "imitate" if objective.traces == "own":
            return prepare_own_imitation(config, objective, model, run, recorder)
        case "imitate":
            return prepare_imitation(config, objective, model, job.sources, run.quarantine)
        case "practice":
            return prepare_practice(config, objective, model)
        case _:
            raise AssertionError(f"{objective.kind} was let through")
