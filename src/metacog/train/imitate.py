"""Imitation: layer and gate learn from given traces; the base stays as it is.

The gate learns the traces' tokens, the heads their plan and length. After `cut_after` steps traces
are cut at the layer's own budget, as the controller would cut them, and `think_tokens_used` counts
what was kept; the budget's target stays the full length. Correctness under a budget is not known
of a given trace, so confidence learns nothing here; nor does the plan from a data set's rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from metacog.config.objective import ImitateObjective
from metacog.config.run import RunConfig
from metacog.losses.answer import answer_loss
from metacog.losses.budget import Spending, budget_used
from metacog.losses.combine import LossName, combine, loss_values
from metacog.losses.plan import plan_loss
from metacog.losses.report import LossReport
from metacog.losses.style import style_loss
from metacog.losses.variance import variance_loss
from metacog.model.bundle import MetacogModel
from metacog.model.gate import FeedbackGate
from metacog.model.layer_stats import layer_metrics
from metacog.model.outputs import LayerOutput
from metacog.train.gated import gate_metrics, gated, read_prompts, reply_batch, reply_logits
from metacog.train.given import GivenTrace, cut_at
from metacog.train.layer import loss_weights, spending_metrics
from metacog.train.loop import StepResult
from metacog.train.optim import Group, Optimizers
from metacog.train.traces import Traces


@dataclass(frozen=True)
class ImitationBatch:
    """Traces of one step, and whether they are cut."""

    traces: Sequence[GivenTrace]
    is_cut: bool


class Imitation:
    """The objective `imitate`."""

    is_finished = False

    def __init__(
        self,
        model: MetacogModel,
        feedback: FeedbackGate | None,
        config: RunConfig,
        objective: ImitateObjective,
        traces: Traces,
    ) -> None:
        assert model.reader is not None
        self.layer = model.reader.layer
        self.model = MetacogModel(model.base, model.reader, feedback, model.decoding)
        self._config, self._objective, self.traces = config, objective, traces
        self._weights = {**loss_weights(config), LossName.ANSWER: config.losses.answer}
        model.base.model.requires_grad_(False)
        rate, decay = config.run.learning_rate, config.run.weight_decay
        groups = [Group("layer", list(self.layer.parameters()), rate, decay)]
        if feedback is not None:
            groups.append(Group("gate", list(feedback.parameters()), rate))
        self.optimizers = Optimizers(groups)

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

    @contextmanager
    def step(self, batch: ImitationBatch) -> Iterator[StepResult]:
        """Give the weighted losses of a batch, the gate on until the gradient is taken."""
        self._train_mode(True)
        with self._reports(batch) as (reports, metrics):
            loss = combine(reports, self._weights)
            tokens = sum(len(trace.reply.steps) for trace in batch.traces)
            values = loss_values(reports, self._weights)
            yield StepResult(loss, {**values, **metrics, **self.traces.metrics()}, tokens)

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """Return the losses on whole traces that are not trained on; nothing where there are none."""
        self._train_mode(False)
        traces = self.traces.validation()
        whole: dict[LossName, LossReport] = {}
        for first in range(0, len(traces), self._config.run.batch):
            part = ImitationBatch(traces[first : first + self._config.run.batch], is_cut=False)
            with self._reports(part) as (reports, _):
                whole = {n: whole[n] + r if whole else r for n, r in reports.items()}
        values = loss_values(whole, self._weights)
        return {f"eval/validation/{name.removeprefix('train/')}": v for name, v in values.items()}

    def save(self, directory: Path) -> None:
        """Write layer and gate; what re-readings say was not learned, so replies go without them."""
        plans, gate, decoding = self._config.metacog.plans, self.model.gate, self.model.decoding
        budget = decoding.budget.model_copy(update={"revise": False, "reread": "none"})
        model = replace(self.model, decoding=decoding.model_copy(update={"budget": budget}))
        model.with_layer(self.layer, plans=plans, gate=gate).save_layer(directory)

    def state(self) -> Mapping[str, Any]:
        """Return, as JSON values, where the data stand behind the last batch."""
        return {"data": self.traces.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Let `batches` go on behind the batch at which a state was taken.

        Raises:
            CheckpointError: If the state is that of other data.
        """
        self.traces.load_state(state["data"])

    def _train_mode(self, on: bool) -> None:
        self.layer.train(on)
        if self.model.gate is not None:
            self.model.gate.train(on)

    @contextmanager
    def _reports(
        self, batch: ImitationBatch
    ) -> Iterator[tuple[dict[LossName, LossReport], dict[str, float]]]:
        reading = read_prompts(self.model, [trace.reply.prompt for trace in batch.traces])
        replies = [trace.reply for trace in batch.traces]
        if batch.is_cut:
            budgets = reading.budget.detach().round().int().tolist()
            least = self._config.budget.min_think
            replies = [cut_at(r, max(least, b)) for r, b in zip(replies, budgets, strict=True)]
        laid_out = reply_batch(replies, self.model.base.pad_id)
        kept = torch.tensor([float(reply.budget.used) for reply in replies])
        metrics = {
            **layer_metrics(reading, self.layer.scale),
            **spending_metrics(reading.budget.detach(), kept),
        }
        with gated(self.model, reading, laid_out.thinking) as state:
            answer = answer_loss(*reply_logits(self.model, laid_out))
            reports = {LossName.ANSWER: answer, **self._head_reports(batch, reading)}
            yield reports, {**metrics, **gate_metrics(state, laid_out.thinking)}

    def _head_reports(
        self, batch: ImitationBatch, reading: LayerOutput
    ) -> dict[LossName, LossReport]:
        config, weight = self._config, self._config.metacog.per_layer_weight
        length = torch.tensor([float(trace.reply.budget.used) for trace in batch.traces])
        every = torch.ones_like(length, dtype=torch.bool)
        spending = Spending(reading.budget, length, every, config.budget.max_tokens)
        plans = config.metacog.plans
        named = [plans.index(t.plan) if t.plan in plans else -1 for t in batch.traces]
        plan = torch.tensor(named)
        experts = reading.per_layer
        return {
            LossName.BUDGET: budget_used(
                spending,
                experts=self.layer.scale.tokens(experts["budget_raw_pl"]),
                per_layer_weight=weight,
            ),
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
