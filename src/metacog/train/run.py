"""One run from its configuration: checks, directory, events, objective, loop; or its second half."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from metacog.config import cautions
from metacog.config.compare import essence
from metacog.config.objective import ImitateObjective, PretrainObjective
from metacog.config.objective import Objective as AnyObjective
from metacog.config.run import RunConfig
from metacog.errors import ConfigError, MetacogError, RunStopped
from metacog.model.base import for_training
from metacog.model.bundle import MetacogModel, load_model
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.sinks import MultiSink, open_sinks, require_sinks
from metacog.train.beginning import Beginning, begin
from metacog.train.checkpoint import Keeper, Origin
from metacog.train.checks import (
    reads_rows,
    refuse_other_shapes,
    refuse_unread,
    refuse_unused,
    require_trainable,
)
from metacog.train.collected import Collected
from metacog.train.guards import guards_for
from metacog.train.imitate import teaches_nothing
from metacog.train.loop import Objective, fit
from metacog.train.passage import Passage
from metacog.train.prepare import (
    prepare_gate,
    prepare_imitation,
    prepare_layer,
    prepare_own_imitation,
    prepare_practice,
    prepare_rereading,
)
from metacog.train.pretrain import Pretraining, check_mix
from metacog.train.processes import Processes, joined
from metacog.train.resume import Resumption, has_begun, require_world
from metacog.train.stopping import interruptible, stoppable
from metacog.train.text import TextSources, open_sources
from metacog.train.watch import Answering
from metacog.train.world import digest_of_world, world_of

Narrate = Callable[[str], None]
"""Told what happens, in lines for people."""
Finish = Callable[[RunDir], None]
"""Does what follows the last step, once `final/` is there."""

_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class _Job:
    """One process's part of a run."""

    config: RunConfig
    model: MetacogModel | None
    sources: TextSources
    begun: Beginning
    narrate: Narrate
    world: dict[str, str]
    processes: Processes
    finish: Finish | None


def train(
    config: RunConfig,
    *,
    run_dir: Path | None = None,
    resume: str | None = None,
    narrate: Narrate = lambda _: None,
    finish: Finish | None = None,
) -> RunDir:
    """Train what the configuration says and return the run's directory.

    Args:
        config: Of the run.
        run_dir: Where it goes; by default `runs/` and its name.
        resume: A checkpoint to go on from in the directory of its run; `auto` for the newest whole
            one, or the beginning where there is no run yet; None for a new run.
        narrate: Told what was restored.
        finish: Does what follows the last step; a run is done once it has, and does it once.

    Raises:
        ConfigError: If the objective cannot be run from this configuration, or a run would go on
            under another one.
        ModelError: If there is no such base or layer.
        DataError: If a data set cannot be read. Nothing has been written then, nor before.
        CheckpointError: If there is nothing whole to go on from, or it belongs to something else.
        RunError: If the directory exists or is in use, a loss is not finite, or nothing can be saved.
        RunStopped: If the run was asked to stop.
    """
    if not has_begun(resume, run_dir, config.run.name):  # what goes on may not change its settings
        refuse_unread(config)
    return train_stage(config, run_dir=run_dir, resume=resume, narrate=narrate, finish=finish)


def train_stage(
    config: RunConfig,
    *,
    run_dir: Path | None = None,
    resume: str | None = None,
    narrate: Narrate = lambda _: None,
    finish: Finish | None = None,
) -> RunDir:
    """Train as `train` does, where other stages may read what this one does not."""
    config = config.model_copy(deep=True)
    require_sinks(config.logging.sinks)
    parts_differ = config.run.objective.kind == "practice"
    with joined(parts_differ=parts_differ) as processes, ExitStack() as held:
        require_trainable(config, processes)
        model, sources = processes.together(lambda: checked(config))
        world = world_of(model)
        held.enter_context(interruptible())
        found = begin(config, world, processes, held, run_dir=run_dir, resume=resume)
        tell = narrate if processes.is_first else _silent
        job = _Job(config, model, sources, found, tell, world, processes, finish)
        if not found.is_done:
            _trained(job)
        elif finish is None or found.is_told_done:
            tell(f"{found.run.path} has come to its end; there is nothing left to do.")
        else:
            _ended(job)
        return found.run


def _silent(_message: str) -> None:
    """Say nothing: the first process narrates."""


def _trained(job: _Job) -> None:
    """Train with everything recorded, whatever the end is."""
    config = job.config
    start = 0 if job.begun.resumption is None else job.begun.resumption.step
    with _recording(job) as recorder:
        recorder.record(EventKind.CONFIG, start, config.model_dump(mode="json"))
        for caution in cautions(config):
            recorder.alert(start, caution)
        _end(job, recorder, _run(job, recorder))


def _ended(job: _Job) -> None:
    """Do for a run that has taken its last step what follows it."""
    run = job.begun.run
    job.narrate(f"{run.path} has taken its last step; what follows it is still to be done.")
    step = max((event.step for event in read_events(run.events)), default=0)
    with _recording(job) as recorder:
        _end(job, recorder, step)


def _end(job: _Job, recorder: Recorder, step: int) -> None:
    run, finish = job.begun.run, job.finish
    if finish is not None:
        with interruptible("after the last step"):
            job.processes.first(lambda: finish(run))
    recorder.record(EventKind.STATUS, step, {"message": "done", "path": str(run.path)})


@contextmanager
def _recording(job: _Job) -> Iterator[Recorder]:
    """Give what a run tells of itself to, and tell it of a stop or an error."""
    config, run, first = job.config, job.begun.run, job.processes.is_first
    steps = config.run.steps
    sink = open_sinks(config.logging.sinks, run, num_steps=steps) if first else MultiSink({})
    recorder = Recorder(run.name, sink)
    try:
        yield recorder
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


def checked(config: RunConfig) -> tuple[MetacogModel | None, TextSources]:
    """Return what a run starts from, nothing being written: its model and its data sets.

    There is no model where the objective makes one of its own, and no data set where questions are
    generated.

    Raises:
        ConfigError: If the objective cannot be run from this configuration.
        ModelError: If there is no such base or layer.
        DataError: If a data set cannot be read or has columns of no known kind.
    """
    model = checked_model(config)
    return model, open_sources(config) if reads_rows(config) else []


def _run(job: _Job, recorder: Recorder) -> int:
    run, processes, loop = job.begun.run, job.processes, job.config.run
    objective = processes.together(lambda: _objective(job, recorder))
    if not processes.is_first:  # noise of its own
        torch.manual_seed(loop.seed * _SEED_STRIDE + processes.rank)
    guards = guards_for(job.config, _serving(objective, processes))
    passage = Passage(objective, processes, guards)
    world = {**job.world, **Collected(run, digest_of_world(job.world)).digests()}
    origin = Origin(essence(job.config), world)
    keeper = Keeper(objective, loop, run, recorder, origin, processes=processes)
    start = 0
    if job.begun.resumption is not None:
        require_world(job.begun.resumption, world)
        start = _go_on(job, job.begun.resumption, keeper, recorder)
    with stoppable() as stop:
        return fit(
            objective,
            loop,
            run=run,
            recorder=recorder,
            start=start,
            keeper=keeper,
            stop=stop,
            passage=passage,
        )


def _serving(objective: Objective[Any, Any], processes: Processes) -> MetacogModel | None:
    """Return the model whose gate passes must have; shards pass through a copy of it."""
    is_here = processes.strategy != "fsdp2"
    return objective.current() if is_here and isinstance(objective, Answering) else None


def _go_on(job: _Job, resumption: Resumption, keeper: Keeper, recorder: Recorder) -> int:
    """Restore a checkpoint and give the receipt; return the steps that were done."""
    start, restored = 0, list(job.begun.said)
    if resumption.directory is not None:
        start, parts = keeper.load(resumption.directory)
        restored += parts
    source = job.begun.run.path if resumption.directory is None else resumption.directory
    word = "began" if resumption.directory is None else "resumed"
    told = f"{word} {source} at step {start} of {job.config.run.steps}"
    job.narrate("\n  ".join([told, *restored]))
    data = {"message": word, "path": str(source), "receipt": restored}
    recorder.record(EventKind.STATUS, start, data)
    return start


def checked_model(config: RunConfig) -> MetacogModel | None:
    """Return the model that a run starts from, or None where the objective makes one of its own.

    Raises:
        ConfigError: If the objective cannot be run from this configuration.
        ModelError: If there is no such base or layer.
    """
    objective = config.run.objective
    refuse_unused(config)
    if isinstance(objective, PretrainObjective):
        check_mix(objective)
        return None
    needs_layer, layer = _layer_wanted(objective)
    found = load_model(
        config.model.path,
        layer=layer,
        base_path=config.model.base_path,
        precision=config.model.precision,
    )
    base = for_training(
        found.base, recomputes=config.model.grad_checkpoint, flash=config.model.flash_attn
    )
    found = replace(found, base=base)
    if needs_layer and found.reader is None:
        raise ConfigError(
            f"The objective {objective.kind} goes on from a layer, but {config.model.path} has none. "
            "Train one, then name its directory in run.objective.layer_path."
        )
    if needs_layer:
        if not config.feedback.enabled:
            found = replace(found, gate=None)
        refuse_other_shapes(config, found)
    if isinstance(objective, ImitateObjective) and teaches_nothing(config, objective, found.gate):
        raise ConfigError(
            "Own traces teach the gate and what of the base may learn: wanted one of them, got "
            "adaptation.enabled=false and no gate. Set adaptation.enabled to true, or keep the gate."
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
    config, model, run, processes = job.config, job.model, job.begun.run, job.processes
    objective = config.run.objective
    if isinstance(objective, PretrainObjective):
        return Pretraining(config, objective)
    assert model is not None
    match objective.kind:
        case "layer":
            return prepare_layer(config, objective, model, run, recorder, processes)
        case "gate":
            return prepare_gate(config, objective, model, run, recorder, processes)
        case "reread":
            return prepare_rereading(config, objective, model, run, recorder, processes)
        case "imitate" if objective.traces == "own":
            return prepare_own_imitation(config, objective, model, run, recorder, processes)
        case "imitate":
            text = job.sources
            return prepare_imitation(config, objective, model, text, run.quarantine, processes)
        case "practice":
            return prepare_practice(config, objective, model, processes)
        case _:
            raise AssertionError(f"{objective.kind} was let through")
