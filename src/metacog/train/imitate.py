"""Imitation: layer, gate and what of the base may learn take their traces from elsewhere.

They come from a solver or a data set, or are the model's own, cut where they were enough
(`train.own`). The gate and the base learn the traces' tokens, the heads their plan and length. After `cut_after` steps traces
are cut at the layer's own budget, as the controller would cut them, and `think_tokens_used` counts
what was kept; the budget's target stays the full length. Correctness under a budget is not known
of a given trace, so confidence learns nothing here; nor does the plan from a data set's rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from metacog.config.objective import ImitateObjective
from metacog.config.run import RunConfig
from metacog.decode.opening import Opener
from metacog.decode.settings import engine_settings
from metacog.decode.terms import NO_LIMIT
from metacog.losses.answer import answer_loss
from metacog.losses.budget import Spending, budget_need, budget_used
from metacog.losses.combine import LossName, combine, loss_values
from metacog.losses.plan import plan_loss
from metacog.losses.report import LossReport, Tally
from metacog.losses.style import style_loss
from metacog.losses.variance import variance_loss
from metacog.model.adapt import Adapted
from metacog.model.bundle import MetacogModel
from metacog.model.gate import FeedbackGate
from metacog.model.learner import Learner
from metacog.model.metacog import MetacogLayer
from metacog.model.outputs import LayerOutput
from metacog.records import Generation
from metacog.train.gated import (
    gate_tallies,
    gated,
    padding_tallies,
    read_prompts,
    reply_batch,
    reply_logits,
    segment_tallies,
)
from metacog.train.given import GivenTrace, cut_at
from metacog.train.layer_losses import layer_tallies, loss_weights, plan_tallies, spending_tallies
from metacog.train.optim import Optimizers, parameter_groups
from metacog.train.result import Counts, StepResult
from metacog.train.saving import save_adapted
from metacog.train.state import State
from metacog.train.traces import Traces


@dataclass(frozen=True)
class ImitationBatch:
    """Traces of one step, and whether they are cut."""

    traces: Sequence[GivenTrace]
    is_cut: bool


@dataclass(frozen=True)
class ImitationPart:
    """Traces that pass through the model together, and as much of them as is learned."""

    traces: Sequence[GivenTrace]
    replies: Sequence[Generation]
    """The traces, cut as the controller would cut them where that is asked for."""


class Imitation:
    """The objective `imitate`."""

    is_finished = False

    def __init__(
        self,
        model: MetacogModel,
        feedback: FeedbackGate | None,
        adapted: Adapted,
        config: RunConfig,
        objective: ImitateObjective,
        traces: Traces,
    ) -> None:
        assert model.reader is not None
        self.layer, self._plans = model.reader.layer, model.reader.plans
        self.model = MetacogModel(model.base, model.reader, feedback, model.decoding)
        self._config, self._objective, self.traces = config, objective, traces
        self._weights = {**loss_weights(config), LossName.ANSWER: config.losses.answer}
        self._adapted, self._is_own = adapted, objective.traces == "own"
        self._length_teaches = _length_teaches(config, objective)
        if self._is_own:  # A regulariser without labels beside it would be all that a head learns.
            self._weights[LossName.STYLE] = 0.0
            self._weights[LossName.VARIANCE] *= self._length_teaches
        mark_taught(self.layer, feedback, config, objective)
        self.optimizers = Optimizers(parameter_groups(config, self.layer, feedback, adapted))

    def batches(self, start: int) -> Iterator[ImitationBatch]:
        """Yield the traces of each step, for ever; what runs in the background ends with it."""
        step = start
        try:
            while True:
                traces = self.traces.batch(step)
                yield ImitationBatch(traces, is_cut=step >= self._objective.cut_after)
                step += 1
        finally:
            self.traces.close()

    def parts(self, batch: ImitationBatch) -> list[ImitationPart]:
        """Return the traces of each forward pass, cut at the layer's budgets where that is due."""
        size = self._config.run.batch
        slices = [batch.traces[i : i + size] for i in range(0, len(batch.traces), size)]
        return [
            ImitationPart(some, self._cut(some) if batch.is_cut else [t.reply for t in some])
            for some in slices
        ]

    def examples(self, batch: ImitationBatch) -> list[str]:
        """Return the id of each trace."""
        return [trace.id for trace in batch.traces]

    def counts(self, parts: Sequence[ImitationPart]) -> Counts:
        """Return the labels of each loss in all parts."""
        replies = [reply for part in parts for reply in part.replies]
        trained = sum(step.sampled and not step.altered for r in replies for step in r.steps)
        planned = sum(t.plan in self._plans for p in parts for t in p.traces)
        rows = dict.fromkeys((LossName.BUDGET, LossName.VARIANCE, LossName.STYLE), len(replies))
        rows[LossName.BUDGET] *= self._length_teaches
        found = {LossName.ANSWER: trained, LossName.PLAN: planned, **rows}
        return {name: torch.tensor(float(count)) for name, count in found.items()}

    def learner(self) -> Learner:
        """Return base, layer and gate."""
        return Learner.of(self.model)

    @contextmanager
    def step(
        self, part: ImitationPart, counts: Counts | None = None, learner: Learner | None = None
    ) -> Iterator[StepResult]:
        """Give the weighted losses of a part, the gate on until the gradient is taken."""
        model = self.model if learner is None else learner.inside(self.model)
        _train_mode(model, layer=True, gate=not self._is_own)
        with self._reports(part, model) as (reports, tallies):
            loss = combine(reports, self._weights, counts)
            tokens = sum(len(reply.steps) for reply in part.replies)
            figures = {n: Tally.of(torch.tensor(v)) for n, v in self.traces.metrics().items()}
            yield StepResult(loss, reports, self._weights, tokens, tallies={**tallies, **figures})

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """Return the losses on whole traces that are not trained on; nothing where there are none."""
        _train_mode(self.model, layer=False, gate=False)
        traces = self.traces.validation()
        whole: dict[LossName, LossReport] = {}
        for first in range(0, len(traces), self._config.run.batch):
            some = traces[first : first + self._config.run.batch]
            part = ImitationPart(some, [trace.reply for trace in some])
            with self._reports(part, self.model) as (reports, _):
                whole = {n: whole[n] + r if whole else r for n, r in reports.items()}
        values = loss_values(whole, self._weights)
        return {f"eval/validation/{name.removeprefix('train/')}": v for name, v in values.items()}

    def state(self) -> State:
        """Return where the data stand behind the last batch."""
        return State({}, {"data": self.traces.state()})

    def load_state(self, state: State) -> None:
        """Let `batches` go on behind the batch at which a state was taken.

        Raises:
            CheckpointError: If the state is that of other data.
        """
        self.traces.load_state(state.values["data"])

    def save(self, directory: Path, *, whole: bool = True) -> None:
        """Write layer and gate; what re-readings say was not learned, so replies go without them."""
        save_adapted(self.current(), self._adapted, directory, whole=whole)

    def current(self) -> MetacogModel:
        """Return the model with layer and gate as they are now, which replies without re-readings."""
        gate, decoding = self.model.gate, self.model.decoding
        budget = decoding.budget.model_copy(update={"revise": False, "reread": "none"})
        model = replace(self.model, decoding=decoding.model_copy(update={"budget": budget}))
        return model.with_layer(self.layer, plans=self._plans, gate=gate)

    @torch.no_grad()
    def _cut(self, traces: Sequence[GivenTrace]) -> list[Generation]:
        """Return the traces as they would have ended under the budgets that the engine enforces."""
        replies, reader = [trace.reply for trace in traces], self.model.reader
        assert reader is not None
        raw = read_prompts(self.model, [reply.prompt for reply in replies])
        opener = Opener(self.model, engine_settings(self.model).opening)
        budgets = opener.budgets(reader.calibration.apply(raw))
        return [r if n == NO_LIMIT else cut_at(r, n) for r, n in zip(replies, budgets, strict=True)]

    @contextmanager
    def _reports(
        self, part: ImitationPart, model: MetacogModel
    ) -> Iterator[tuple[dict[LossName, LossReport], dict[str, Tally]]]:
        reading = read_prompts(model, [reply.prompt for reply in part.replies])
        laid_out = reply_batch(part.replies, model.base.pad_id)
        kept = torch.tensor([float(reply.budget.used) for reply in part.replies])
        tallies = {
            **layer_tallies(reading, self.layer.scale),
            **spending_tallies(reading.budget, kept),
            **plan_tallies(reading, self._plans),
            **segment_tallies(part.replies, self.model.base),
        }
        with gated(model, reading, laid_out.gated) as state:
            answer = answer_loss(*reply_logits(model, laid_out))
            reports = {LossName.ANSWER: answer, **self._head_reports(part, reading)}
            tallies |= gate_tallies(state, laid_out.thinking)
            yield reports, {**tallies, **padding_tallies(laid_out.valid)}

    def _head_reports(
        self, part: ImitationPart, reading: LayerOutput
    ) -> dict[LossName, LossReport]:
        config, weight = self._config, self._config.metacog.per_layer_weight
        length = torch.tensor([float(trace.reply.budget.used) for trace in part.traces])
        every = torch.ones_like(length, dtype=torch.bool)
        spending = Spending(reading.budget, length, every, config.budget.max_tokens)
        plans = self._plans
        named = [plans.index(t.plan) if t.plan in plans else -1 for t in part.traces]
        plan = torch.tensor(named)
        experts = reading.per_layer
        return {
            LossName.BUDGET: self._budget_report(reading, spending),
            LossName.PLAN: plan_loss(
                reading.plan_logits,
                plan,
                plan >= 0,
                experts=experts["plan_logits_pl"],
                per_layer_weight=weight,
            ),
            LossName.VARIANCE: variance_loss(
                experts, reading.budget_raw, var_reg=config.metacog.var_reg
            ),
            LossName.STYLE: style_loss(
                reading.plan_logits, experts, style_entropy=config.losses.style_entropy
            ),
        }

    def _budget_report(self, reading: LayerOutput, spending: Spending) -> LossReport:
        """Return the loss on the traces' lengths: what given ones used, what own ones needed.

        A whole trace of its own says nothing of need: it is measured and not learned from.
        """
        config, weight = self._config, self._config.metacog.per_layer_weight
        experts = reading.per_layer["budget_raw_pl"]
        if not self._is_own or config.losses.budget_target == "used":
            tokens = self.layer.scale.tokens(experts)
            return budget_used(spending, experts=tokens, per_layer_weight=weight)
        return budget_need(
            reading.budget_raw,
            self.layer.scale.fraction(spending.used),
            spending.known & self._length_teaches,
            ~spending.known,
            spending,
            quantile=config.budget.quantile,
            experts=experts,
            per_layer_weight=weight,
        )


def mark_taught(
    layer: MetacogLayer,
    feedback: FeedbackGate | None,
    config: RunConfig,
    objective: ImitateObjective,
) -> None:
    """Give a gradient to exactly what of layer and gate the traces teach."""
    if objective.traces == "own":
        # No trunk may move for the gate's sake under heads that nothing holds in place.
        layer.requires_grad_(_length_teaches(config, objective))
        if feedback is not None:
            feedback.teach_projection()
    for module in _untaught(layer):
        module.requires_grad_(False)


def teaches_nothing(
    config: RunConfig, objective: ImitateObjective, feedback: FeedbackGate | None
) -> bool:
    """Say whether nothing would learn: own traces teach the base and the gate, where there are such."""
    learns = config.adaptation.enabled or feedback is not None
    return not learns and not _length_teaches(config, objective)


def _length_teaches(config: RunConfig, objective: ImitateObjective) -> bool:
    """Say whether a trace's length is a label: an own one is no need unless it was cut where it is."""
    is_need = objective.sure is not None or config.losses.budget_target == "used"
    return is_need or objective.traces == "given"


def _untaught(layer: MetacogLayer) -> tuple[nn.Module, ...]:
    """Return what of a layer given traces say nothing about: re-readings and confidence."""
    own, experts = layer.heads, layer.experts
    return layer.reread_heads, layer.reread_experts, own.confidence, experts.confidence


def _train_mode(model: MetacogModel, *, layer: bool, gate: bool) -> None:
    assert model.reader is not None
    model.reader.layer.train(layer)
    if model.gate is not None:
        model.gate.train(gate)
