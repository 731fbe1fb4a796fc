"""One run from its configuration: directory, events, objective, loop."""

from datetime import datetime
from pathlib import Path
from typing import assert_never

import torch

from metacog.config import cautions, digest
from metacog.config.objective import (
    GateObjective,
    ImitateObjective,
    LayerObjective,
    PracticeObjective,
    PretrainObjective,
)
from metacog.config.run import RunConfig
from metacog.data.tasks.splits import Split
from metacog.errors import ConfigError
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.metacog import MetacogLayer
from metacog.telemetry import provenance
from metacog.telemetry.events import EventKind
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir, default_name
from metacog.telemetry.sinks import open_sinks
from metacog.train.features import Features
from metacog.train.layer import LayerTraining, layer_shape
from metacog.train.loop import fit
from metacog.train.pretrain import Pretraining
from metacog.train.rollouts import collect_features, distinct_questions

VALIDATION_FEATURES = Path("features") / "validation.safetensors"
"""Where a run keeps what the layer is judged and its thresholds are chosen on."""

_VALIDATION_SHARE = 0.1
_MOST_VALIDATION = 2000


def train(config: RunConfig, *, run_dir: Path | None = None) -> RunDir:
    """Train what the configuration says and return the run's directory.

    Raises:
        ConfigError: If the objective cannot be run from this configuration.
        RunError: If the directory exists, or a loss is not finite.
    """
    config = config.model_copy(deep=True)
    name = config.run.name or default_name(config.run.objective.kind, datetime.now().astimezone())
    path = run_dir or Path("runs") / name
    origin = provenance.collect(seed=config.run.seed, config_digest=digest(config))
    run = RunDir.create(path, config=config, provenance=origin)
    sinks = open_sinks(config.logging.sinks, events_path=run.events, num_steps=config.run.steps)
    recorder = Recorder(run.name, sinks)
    try:
        recorder.record(EventKind.CONFIG, 0, config.model_dump(mode="json"))
        for caution in cautions(config):
            recorder.alert(0, caution)
        steps = _run(config, run, recorder)
        recorder.record(EventKind.STATUS, steps, {"message": "done", "path": str(run.path)})
    finally:
        recorder.close()
    return run


def _run(config: RunConfig, run: RunDir, recorder: Recorder) -> int:
    objective = config.run.objective
    match objective:
        case PretrainObjective():
            return fit(Pretraining(config, objective), config.run, run=run, recorder=recorder)
        case LayerObjective():
            return _train_layer(config, objective, run, recorder)
        case GateObjective() | ImitateObjective() | PracticeObjective():
            raise ConfigError(
                f"Wanted an objective that can be run (pretrain, layer), got {objective.kind}. "
                "Change run.objective."
            )
        case _:
            assert_never(objective)


def _train_layer(
    config: RunConfig, objective: LayerObjective, run: RunDir, recorder: Recorder
) -> int:
    model = load_model(config.model.path, precision=config.model.precision)
    model = MetacogModel(
        model.base,
        decoding=model.decoding.model_copy(
            update={"budget": config.budget, "plan": config.plan, "sampling": config.sampling}
        ),
    )
    features = {
        split: _features(model, config, split, recorder)
        for split in (Split.LAYER_TRAIN, Split.VALIDATION)
    }
    features[Split.VALIDATION].save(run.path / VALIDATION_FEATURES)
    for split, found in features.items():
        found.save_labels(run.path / "features" / f"{split}-labels.safetensors")
    torch.manual_seed(config.run.seed)
    training = LayerTraining(
        MetacogLayer(layer_shape(model, config)),
        model,
        config,
        train=features[Split.LAYER_TRAIN],
        validation=features[Split.VALIDATION],
        patience=objective.patience,
    )
    return fit(training, config.run, run=run, recorder=recorder)


def _features(model: MetacogModel, config: RunConfig, split: Split, recorder: Recorder) -> Features:
    count = config.data.num_prompts
    if split is Split.VALIDATION:
        count = min(max(1, int(count * _VALIDATION_SHARE)), _MOST_VALIDATION)
    questions = distinct_questions(split, count, seed=config.run.seed, families=config.data.tasks)

    def tell(done: int, total: int, left: float) -> None:
        recorder.log(0, f"{split}: {done} of {total} rollouts, {left:.0f} s left")

    return collect_features(model, questions, seed=config.run.seed, progress=tell)
