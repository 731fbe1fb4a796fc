"""From a configuration to what a run trains: questions, rollouts, labels, and fresh modules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from metacog.config.decoding import DecodingConfig
from metacog.config.objective import (
    GateObjective,
    ImitateObjective,
    LayerObjective,
    PracticeObjective,
    RereadObjective,
)
from metacog.config.run import RunConfig
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.questions import Question
from metacog.data.tasks.splits import Split
from metacog.decode.collect import Rollout
from metacog.errors import DataError
from metacog.model.adapt import adapt
from metacog.model.bundle import MetacogModel
from metacog.model.gate import FeedbackGate
from metacog.model.metacog import MetacogLayer
from metacog.records import Generation
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.train.checks import families_of
from metacog.train.collected import Collected
from metacog.train.features import Features
from metacog.train.gate import GateTraining, gate_shape, shortest_right
from metacog.train.imitate import Imitation
from metacog.train.layer import LayerTraining, layer_shape, taught_by
from metacog.train.own import OwnTraces, shortest_enough
from metacog.train.plans import plan_labels, with_plans
from metacog.train.practice import Practice
from metacog.train.processes import ALONE, Processes
from metacog.train.rollouts import Progress, collect_features, rollout_waves
from metacog.train.text import TextSources, text_traces
from metacog.train.traces import SolvedTraces, Traces
from metacog.train.world import digest_of_world, world_of

VALIDATION_FEATURES = Path("features") / "validation.safetensors"
"""Where a run keeps what the layer is judged and its thresholds are chosen on."""

_VALIDATION_SHARE = 0.1
_MOST_VALIDATION = 2000


def prepare_layer(
    config: RunConfig,
    objective: LayerObjective,
    model: MetacogModel,
    run: RunDir,
    recorder: Recorder,
    processes: Processes = ALONE,
) -> LayerTraining:
    """Let the frozen base answer its questions, and return a layer to be taught by what it did."""
    bare = MetacogModel(model.base, decoding=_decoding(config, model))
    collected = Collected(run, digest_of_world(world_of(model)), processes)
    found: dict[Split, Features] = {}
    for split in (Split.LAYER_TRAIN, Split.VALIDATION):

        def collect(split: Split = split) -> Features:
            features = _features(bare, config, objective.rollouts, split, recorder)
            return _labelled(bare, config, objective, split, features, recorder)

        found[split] = collected.features(split.value, collect)
    processes.first(partial(_keep, found, run))
    torch.manual_seed(config.run.seed)
    return LayerTraining(
        MetacogLayer(layer_shape(bare, config)),
        bare,
        config,
        train=found[Split.LAYER_TRAIN],
        validation=found[Split.VALIDATION],
        patience=objective.patience,
        processes=processes,
    )


def prepare_rereading(
    config: RunConfig,
    objective: RereadObjective,
    model: MetacogModel,
    run: RunDir,
    recorder: Recorder,
    processes: Processes = ALONE,
) -> LayerTraining:
    """Let the model answer with its gate in place, and return its layer to learn re-reading that."""
    assert model.reader is not None
    layer = model.reader.layer
    model = replace(model, decoding=_decoding(config, model))
    collected = Collected(run, digest_of_world(world_of(model)), processes)
    found = {
        split: collected.features(
            split.value,
            partial(_features, model, config, objective.rollouts, split, recorder),
        )
        for split in (Split.LAYER_TRAIN, Split.VALIDATION)
    }
    processes.first(partial(_keep, found, run))
    torch.manual_seed(config.run.seed)
    return LayerTraining(
        layer,
        model,
        config,
        train=found[Split.LAYER_TRAIN],
        validation=found[Split.VALIDATION],
        patience=objective.patience,
        taught=taught_by(objective),
        processes=processes,
    )


def prepare_gate(
    config: RunConfig,
    objective: GateObjective,
    model: MetacogModel,
    run: RunDir,
    recorder: Recorder,
    processes: Processes = ALONE,
) -> GateTraining:
    """Let the base answer, keep its shortest right replies, and return a gate to learn them."""
    bare = MetacogModel(model.base, decoding=_decoding(config, model))
    collected = Collected(run, digest_of_world(world_of(model)), processes)
    replies = {
        split: collected.replies(
            f"{split.value}-replies",
            partial(_replies, bare, config, objective, shortest_right, split, recorder),
        )
        for split in (Split.LAYER_TRAIN, Split.VALIDATION)
    }
    torch.manual_seed(config.run.seed)
    return GateTraining(
        replace(model, decoding=bare.decoding),
        FeedbackGate(gate_shape(model, config)),
        config,
        train=replies[Split.LAYER_TRAIN],
        validation=replies[Split.VALIDATION],
        patience=objective.patience,
        processes=processes,
    )


def prepare_imitation(
    config: RunConfig,
    objective: ImitateObjective,
    model: MetacogModel,
    sources: TextSources,
    quarantine: Path | None,
    processes: Processes = ALONE,
) -> Imitation:
    """Return a fresh layer and gate to be taught by solvers' traces, or by rows of text."""
    torch.manual_seed(config.run.seed)
    bare = MetacogModel(model.base, decoding=_decoding(config, model))
    with_layer = bare.with_layer(
        MetacogLayer(layer_shape(bare, config)), plans=config.metacog.plans
    )
    gate = FeedbackGate(gate_shape(with_layer, config)) if config.feedback.enabled else None
    traces: Traces
    if sources:
        traces = text_traces(
            config,
            model.base,
            sources,
            quarantine=quarantine if processes.is_first else None,
            rank=processes.rank,
            world_size=processes.size,
            share=processes.largest,
        )
    else:
        train, validation = (
            questions_of(config, split) for split in (Split.LAYER_TRAIN, Split.VALIDATION)
        )
        traces = SolvedTraces(
            model.base,
            train=train,
            validation=validation,
            size=config.run.batch * config.run.grad_accum,
            seed=config.run.seed,
            processes=processes,
        )
    adapted = adapt(model.base, config.adaptation)
    return Imitation(with_layer, gate, adapted, config, objective, traces)


def prepare_own_imitation(
    config: RunConfig,
    objective: ImitateObjective,
    model: MetacogModel,
    run: RunDir,
    recorder: Recorder,
    processes: Processes = ALONE,
) -> Imitation:
    """Let the model answer, cut its right replies where they are enough, and return it to learn them."""
    model = replace(model, decoding=_decoding(config, model))
    collected = Collected(run, digest_of_world(world_of(model)), processes)
    choose = partial(shortest_enough, model, sure=objective.sure)
    train, validation = (
        collected.replies(
            f"{split.value}-enough",
            partial(_replies, model, config, objective, choose, split, recorder),
        )
        for split in (Split.LAYER_TRAIN, Split.VALIDATION)
    )
    size = config.run.batch * config.run.grad_accum
    torch.manual_seed(config.run.seed)
    seed = config.run.seed
    traces = OwnTraces(train, validation, size=size, seed=seed, processes=processes)
    adapted = adapt(model.base, config.adaptation)
    return Imitation(model, model.gate, adapted, config, objective, traces)


def prepare_practice(
    config: RunConfig,
    objective: PracticeObjective,
    model: MetacogModel,
    processes: Processes = ALONE,
) -> Practice:
    """Return the model with what of its base may learn, to be taught by its own rollouts."""
    torch.manual_seed(config.run.seed)
    train, validation = (
        questions_of(config, split) for split in (Split.LAYER_TRAIN, Split.VALIDATION)
    )
    return Practice(
        replace(model, decoding=_decoding(config, model)),
        adapt(model.base, config.adaptation),
        config,
        objective,
        train=train,
        validation=validation,
        processes=processes,
    )


def questions_of(config: RunConfig, split: Split) -> list[Question]:
    """Return the questions of a run: `data.num_prompts` to train on, a tenth of it to validate."""
    count = config.data.num_prompts
    if split is Split.VALIDATION:
        count = min(max(1, int(count * _VALIDATION_SHARE)), _MOST_VALIDATION)
    return draw_questions(split, count, seed=config.run.seed, families=families_of(config))


def _decoding(config: RunConfig, model: MetacogModel) -> DecodingConfig:
    budget = config.budget
    if not config.metacog.rereadings:
        budget = budget.model_copy(update={"reread": "none", "revise": False})
    return model.decoding.model_copy(
        update={"budget": budget, "plan": config.plan, "sampling": config.sampling}
    )


def _features(
    model: MetacogModel,
    config: RunConfig,
    rollouts: int,
    split: Split,
    recorder: Recorder,
) -> Features:
    return collect_features(
        model,
        questions_of(config, split),
        seed=config.run.seed,
        rollouts=rollouts,
        every_token=split is Split.VALIDATION,
        progress=_teller(recorder, f"{split}: rollouts"),
    )


def _labelled(
    model: MetacogModel,
    config: RunConfig,
    objective: LayerObjective,
    split: Split,
    features: Features,
    recorder: Recorder,
) -> Features:
    """Return the features with the plans of the prompts that plans are tried on."""
    questions = questions_of(config, split)
    share = 1.0 if split is Split.LAYER_TRAIN else _VALIDATION_SHARE
    asked = min(round(share * objective.plan_prompts), len(questions))
    if asked == 0:
        return features
    labels = plan_labels(
        model,
        questions[:asked],
        config.metacog.plans,
        seed=config.run.seed,
        progress=_teller(recorder, f"{split}: plans"),
    )
    return with_plans(features, labels)


def _keep(found: Mapping[Split, Features], run: RunDir) -> None:
    """Write the labels of everything beside the features: small files."""
    for split, features in found.items():
        features.save_labels(run.features / f"{split}-labels.safetensors")


def _replies(
    model: MetacogModel,
    config: RunConfig,
    objective: GateObjective | ImitateObjective,
    choose: Callable[[Sequence[Rollout]], Sequence[Generation]],
    split: Split,
    recorder: Recorder,
) -> Sequence[Generation]:
    """Return what is chosen of a model's own replies to a split's questions."""
    waves = rollout_waves(
        model,
        questions_of(config, split),
        seed=config.run.seed,
        rollouts=objective.rollouts,
        own_budget=isinstance(objective, ImitateObjective) and objective.own_budget,
        progress=_teller(recorder, f"{split}: rollouts"),
    )
    replies = [reply for wave in waves for reply in choose(wave)]
    if not replies:
        raise DataError(
            f"Wanted right replies of the {split.value} split to learn from, got none. "
            "Ask more questions (data.num_prompts), or easier ones (data.tasks)."
        )
    return replies


def _teller(recorder: Recorder, what: str) -> Progress:
    def tell(done: int, total: int, left: float) -> None:
        recorder.log(0, f"{what} of {done} of {total} prompts, {left:.0f} s left")

    return tell
