"""What a run would begin with, found out without writing anything and without a step.

Objectives that learn from the base's own rollouts have no batch before these are made; of them the
first prompt is shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor, nn

from metacog.config.objective import (
    GateObjective,
    ImitateObjective,
    PracticeObjective,
    PretrainObjective,
    RereadObjective,
    ScheduleObjective,
)
from metacog.config.run import RunConfig
from metacog.data.collate import SegmentBatch, TokenBatch
from metacog.data.tasks.splits import Split
from metacog.model.adapt import adapt
from metacog.model.base import decoder_blocks, require_left_padding
from metacog.model.bundle import MetacogModel
from metacog.model.gate import FeedbackGate
from metacog.model.metacog import MetacogLayer
from metacog.records import Segment
from metacog.text.render import render, template_opens_think
from metacog.text.resolve import Tokenizer, tag_ids
from metacog.train import imitate, practice
from metacog.train.checks import refuse_unread
from metacog.train.gate import gate_shape
from metacog.train.gated import segment_batch
from metacog.train.layer import layer_shape, taught_by, taught_modules
from metacog.train.memory import Memory, StepSize, memory_of
from metacog.train.optim import Group, parameter_groups
from metacog.train.prepare import prepare_imitation, questions_of
from metacog.train.pretrain import Pretraining
from metacog.train.run import checked
from metacog.train.schedule import stages_of
from metacog.train.text import TextSources

QUICK_CHUNK = 2000
"""Examples that pretraining draws for its first batch here, instead of `run.objective.chunk`."""


@dataclass(frozen=True)
class GroupReport:
    """Parameters that learn at one rate."""

    name: str
    parameters: int
    learning_rate: float


@dataclass(frozen=True)
class SourceReport:
    """A data set that was opened."""

    name: str
    place: str
    split: str
    kind: str
    """Its columns."""
    domain: str | None
    weight: float


@dataclass(frozen=True)
class Span:
    """Tokens in a row that belong to one part and are learned alike."""

    part: str
    """A segment, or `row` where an objective knows no segments."""
    learned: bool
    tokens: int
    text: str


Rows = tuple[tuple[Span, ...], ...]
"""The spans of each row of a batch."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of examples."""

    max_len: int
    context: int
    longest_seen: int | None
    batch: tuple[int, ...]
    """Of each row of the first batch, padding left out."""


@dataclass(frozen=True)
class Preflight:
    """All that is known before the first step."""

    objective: str
    model: str
    left_padding: bool
    template_opens_think: bool
    tags: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    """Ids of opener and closer by name."""
    sources: tuple[SourceReport, ...]
    batch: Rows
    """The first batch, row by row; for objectives that learn from rollouts the first prompt."""
    lengths: Lengths
    groups: tuple[GroupReport, ...]
    frozen: int
    """Parameters that stay as they are."""
    memory: Memory


def preflight(config: RunConfig) -> Preflight:
    """Check a run and return what it would begin with: of a schedule, what its first stage would.

    Raises:
        ConfigError: If the objective cannot be run from this configuration.
        ModelError: If there is no such base or layer, or its tokenizer pads on the right.
        DataError: If a data set cannot be read.
    """
    config = config.model_copy(deep=True)
    refuse_unread(config)
    if isinstance(config.run.objective, ScheduleObjective):
        config = stages_of(config, Path())[0].config
    model, sources = checked(config)
    return begins_with(config, model, sources)


def begins_with(config: RunConfig, model: MetacogModel | None, sources: TextSources) -> Preflight:
    """Return what a run, no schedule, would begin with, from what was found to start it from.

    Raises:
        DataError: If a data set cannot be read.
        ModelError: If the tokenizer pads on the right.
    """
    objective = config.run.objective
    if isinstance(objective, PretrainObjective):
        return _of_pretraining(config, objective)
    assert model is not None
    if isinstance(objective, ImitateObjective) and objective.traces == "given":
        return _of_imitation(config, objective, model, sources)
    return _of_rollouts(config, model)


def _of_imitation(
    config: RunConfig, objective: ImitateObjective, model: MetacogModel, sources: TextSources
) -> Preflight:
    training = prepare_imitation(config, objective, model, sources, None)
    batches = training.batches(0)
    replies = [trace.reply for trace in next(batches).traces]
    metrics = training.traces.metrics()
    training.traces.close()
    base, gate = model.base, training.model.gate
    laid_out = segment_batch(replies, base.pad_id)
    passed = 0 if gate is None else len(base.blocks) - 1 - gate.shape.layer
    if config.adaptation.enabled:
        whole = config.adaptation.unfreeze_all
        passed = len(base.blocks) if whole else max(passed, config.adaptation.last_k)
    longest = metrics.get("data/longest_seen")
    return _report(
        config,
        base.tokenizer,
        groups=training.optimizers.groups,
        held=(base.model,),
        rows=_rows_of(base.tokenizer, laid_out),
        lengths=Lengths(
            max_len=int(metrics.get("data/max_len", config.length.max_len)),
            context=base.context,
            longest_seen=None if longest is None else int(longest),
            batch=tuple(laid_out.valid.sum(1).tolist()),
        ),
        sources=sources,
        step=replace(
            _step_size(base.model, laid_out.ids, laid_out.trained, passed),
            recomputes=base.recomputes,
        ),
    )


def _of_pretraining(config: RunConfig, objective: PretrainObjective) -> Preflight:
    quick = objective.model_copy(update={"chunk": QUICK_CHUNK, "compiled": False})
    training = Pretraining(config, quick)
    batch = next(iter(training.batches(0)))
    learned, longest = batch.weights > 0, objective.longest
    blocks = int(training.model.config.num_hidden_layers)
    return _report(
        config,
        training.tokenizer,
        groups=training.optimizers.groups,
        held=(),
        rows=_rows_of(training.tokenizer, batch),
        lengths=Lengths(longest, longest, None, tuple(batch.mask.sum(1).tolist())),
        sources=(),
        step=_step_size(training.model, batch.ids, learned, blocks),
    )


def _of_rollouts(config: RunConfig, model: MetacogModel) -> Preflight:
    one = config.model_copy(update={"data": config.data.model_copy(update={"num_prompts": 1})})
    (question,) = questions_of(one, Split.LAYER_TRAIN)
    base = model.base
    prompt = render(base.tokenizer, [{"role": "user", "content": question.text}])
    span = Span(Segment.PROMPT, False, len(prompt), base.decode(prompt, with_control=True))
    layer = () if model.reader is None else (model.reader.layer,)
    gate = () if model.gate is None else (model.gate,)
    return _report(
        config,
        base.tokenizer,
        groups=_groups_of(config, model),
        held=(base.model, *layer, *gate),
        rows=((span,),),
        lengths=Lengths(base.context, base.context, None, (len(prompt),)),
        sources=(),
        step=None,
    )


def _groups_of(config: RunConfig, model: MetacogModel) -> list[Group]:
    """Return the parameter groups of an objective that learns from rollouts."""
    objective, run = config.run.objective, config.run
    if isinstance(objective, PracticeObjective | ImitateObjective):
        assert model.reader is not None
        layer, gate = model.reader.layer, model.gate
        if isinstance(objective, PracticeObjective):
            practice.mark_taught(layer, gate)
        else:
            imitate.mark_taught(layer, gate, config, objective)
        return parameter_groups(config, layer, gate, adapt(model.base, config.adaptation))
    if isinstance(objective, GateObjective):
        fresh = FeedbackGate(gate_shape(model, config))
        return [Group("gate", list(fresh.parameters()), run.learning_rate)]
    if isinstance(objective, RereadObjective):
        assert model.reader is not None
        taught = taught_modules(model.reader.layer, taught_by(objective))
    else:
        taught = [MetacogLayer(layer_shape(model, config))]
    parameters = [parameter for module in taught for parameter in module.parameters()]
    return [Group("layer", parameters, run.learning_rate, run.weight_decay)]


def _report(
    config: RunConfig,
    tokenizer: Tokenizer,
    *,
    groups: Sequence[Group],
    held: Sequence[nn.Module],
    rows: Rows,
    lengths: Lengths,
    sources: TextSources,
    step: StepSize | None,
) -> Preflight:
    require_left_padding(tokenizer)
    tags = tag_ids(tokenizer)
    learning = [parameter for group in groups for parameter in group.parameters]
    known = {id(parameter) for parameter in learning}
    frozen = [p for module in held for p in module.parameters() if id(p) not in known]
    return Preflight(
        objective=config.run.objective.kind,
        model=config.model.path,
        left_padding=tokenizer.padding_side == "left",
        template_opens_think=template_opens_think(tokenizer),
        tags={name: (ids.open, ids.close) for name, ids in tags.items()},
        sources=tuple(
            SourceReport(s.name, s.place, s.split, kind, s.domain, s.weight) for s, kind in sources
        ),
        batch=rows,
        lengths=lengths,
        groups=tuple(
            GroupReport(g.name, sum(p.numel() for p in g.parameters), g.learning_rate)
            for g in groups
        ),
        frozen=sum(parameter.numel() for parameter in frozen),
        memory=memory_of(frozen, learning, step),
    )


def _rows_of(tokenizer: Tokenizer, batch: SegmentBatch | TokenBatch) -> Rows:
    """Return the runs of tokens of each row that belong together, as text."""
    if isinstance(batch, TokenBatch):
        learned, valid, parts = batch.weights > 0, batch.mask > 0, {"row": batch.mask > 0}
    else:
        learned, valid = batch.trained, batch.valid
        parts = {
            Segment.PROMPT.value: batch.prompt,
            Segment.THINK.value: batch.think,
            Segment.CLOSE.value: batch.close,
            Segment.ANSWER.value: batch.answer,
        }
    found = []
    for row in range(len(batch.ids)):
        columns = valid[row].nonzero().flatten().tolist()
        named = {c: name for name, mask in parts.items() for c in columns if bool(mask[row, c])}
        runs = groupby(columns, key=lambda c: (named[c], bool(learned[row, c])))
        found.append(tuple(_span(tokenizer, batch.ids[row, list(run)], *key) for key, run in runs))
    return tuple(found)


def _span(tokenizer: Tokenizer, ids: Int[Tensor, " tokens"], part: str, learned: bool) -> Span:
    return Span(part, learned, len(ids), str(tokenizer.decode(ids.tolist())))


def _step_size(
    model: Any,
    ids: Int[Tensor, "batch seq"],
    learned: Bool[Tensor, "batch seq"],
    blocks: int,
) -> StepSize:
    config = model.config.get_text_config()
    matrices = [p for p in decoder_blocks(model)[0].parameters() if p.ndim == 2]
    return StepSize(
        tokens=ids.numel(),
        learned=int(learned.sum()),
        blocks=blocks,
        hidden=int(config.hidden_size),
        mlp=max(max(matrix.shape) for matrix in matrices),
        vocabulary=int(config.vocab_size),
        bytes=model.dtype.itemsize,
    )
