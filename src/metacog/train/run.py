"""One run from its configuration: checks, directory, events, objective, loop."""

from datetime import datetime
from pathlib import Path

from metacog.config import cautions, digest
from metacog.config.objective import (
    GateObjective,
    PracticeObjective,
    PretrainObjective,
    RereadObjective,
)
from metacog.config.run import RunConfig
from metacog.errors import ConfigError
from metacog.model.bundle import MetacogModel, load_model
from metacog.telemetry import provenance
from metacog.telemetry.events import EventKind
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir, default_name
from metacog.telemetry.sinks import open_sinks, require_sinks
from metacog.train.checks import refuse_unused
from metacog.train.loop import fit
from metacog.train.prepare import (
    prepare_gate,
    prepare_imitation,
    prepare_layer,
    prepare_practice,
    prepare_rereading,
)
from metacog.train.pretrain import Pretraining
from metacog.train.text import TextSources, open_sources


def train(config: RunConfig, *, run_dir: Path | None = None) -> RunDir:
    """Train what the configuration says and return the run's directory.

    Raises:
        ConfigError: If the objective cannot be run from this configuration.
        ModelError: If there is no such base or layer.
        DataError: If a data set cannot be read. Nothing has been written then, nor before.
        RunError: If the directory exists, or a loss is not finite.
    """
    config = config.model_copy(deep=True)
    require_sinks(config.logging.sinks)
    model, sources = checked(config)
    name = config.run.name or default_name(config.run.objective.kind, datetime.now().astimezone())
    path = run_dir or Path("runs") / name
    origin = provenance.collect(seed=config.run.seed, config_digest=digest(config))
    run = RunDir.create(path, config=config, provenance=origin)
    sinks = open_sinks(config.logging.sinks, run, num_steps=config.run.steps)
    recorder = Recorder(run.name, sinks)
    try:
        recorder.record(EventKind.CONFIG, 0, config.model_dump(mode="json"))
        for caution in cautions(config):
            recorder.alert(0, caution)
        steps = _run(config, model, sources, run, recorder)
        recorder.record(EventKind.STATUS, steps, {"message": "done", "path": str(run.path)})
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


def _checked_model(config: RunConfig) -> MetacogModel | None:
    objective = config.run.objective
    refuse_unused(config)
    if isinstance(objective, PretrainObjective):
        return None
    layer: Path | None = None
    if (
        isinstance(objective, GateObjective | RereadObjective | PracticeObjective)
        and objective.layer_path
    ):
        layer = Path(objective.layer_path)
    found = load_model(
        config.model.path,
        layer=layer,
        base_path=config.model.base_path,
        precision=config.model.precision,
    )
    if (
        isinstance(objective, GateObjective | RereadObjective | PracticeObjective)
        and found.reader is None
    ):
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


def _run(
    config: RunConfig,
    model: MetacogModel | None,
    sources: TextSources,
    run: RunDir,
    recorder: Recorder,
) -> int:
    objective, loop = config.run.objective, config.run
    if isinstance(objective, PretrainObjective):
        return fit(Pretraining(config, objective), loop, run=run, recorder=recorder)
    assert model is not None
    match objective.kind:
        case "layer":
            trained = prepare_layer(config, objective, model, run, recorder)
            return fit(trained, loop, run=run, recorder=recorder)
        case "gate":
            gated = prepare_gate(config, objective, model, recorder)
            return fit(gated, loop, run=run, recorder=recorder)
        case "reread":
            again = prepare_rereading(config, objective, model, run, recorder)
            return fit(again, loop, run=run, recorder=recorder)
        case "imitate":
            imitation = prepare_imitation(config, objective, model, sources, run.quarantine)
            return fit(imitation, loop, run=run, recorder=recorder)
        case "practice":
            practice = prepare_practice(config, objective, model)
            return fit(practice, loop, run=run, recorder=recorder)
        case _:
            raise AssertionError(f"{objective.kind} was let through")
