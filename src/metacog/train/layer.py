"""Trains the layer on a frozen base's own rollouts: readings at the prompt, re-readings in THINK."""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from metacog.config.run import RunConfig
from metacog.losses.budget import Spending, budget_need, budget_used
from metacog.losses.combine import LossName, combine, loss_values
from metacog.losses.confidence import confidence_loss
from metacog.losses.plan import plan_loss
from metacog.losses.report import LossReport
from metacog.losses.reread import hope_loss, needed_loss, ready_loss
from metacog.losses.style import style_loss
from metacog.losses.variance import variance_loss
from metacog.model.bundle import MetacogModel
from metacog.model.metacog import MetacogLayer
from metacog.model.outputs import LayerOutput, RereadOutput
from metacog.model.shape import LayerShape
from metacog.train.features import Features
from metacog.train.loop import StepResult
from metacog.train.optim import Group, Optimizers

Reports = dict[LossName, LossReport]


@dataclass(frozen=True)
class LayerBatch:
    """Rows of some prompts and of the points in their traces."""

    prompts: Int[Tensor, " prompts"]
    points: Int[Tensor, " points"]
    caps: Int[Tensor, " prompts"]
    """One point of each prompt: the budget at which its confidence is meant."""


def layer_shape(model: MetacogModel, config: RunConfig) -> LayerShape:
    """Return the shape of a layer that reads this base under this configuration."""
    return LayerShape(
        hidden=model.base.hidden,
        num_layers=len(model.base.blocks),
        proj_dim=config.metacog.proj_dim,
        num_plans=len(config.metacog.plans),
        agg=config.metacog.agg,
        linked_all_layers=config.metacog.linked_all_layers,
        budget_min=config.budget.min_tokens,
        budget_max=config.budget.max_tokens,
        budget_scale=config.metacog.budget_scale,
    )


def loss_weights(config: RunConfig) -> dict[LossName, float]:
    """Return the weight of every loss of the layer."""
    losses, reread = config.losses, config.losses.lambda_reread
    return {
        LossName.PLAN: losses.lambda_plan,
        LossName.BUDGET: losses.lambda_budget_reg,
        LossName.CONFIDENCE: losses.lambda_confidence,
        LossName.NEEDED: reread,
        LossName.READY: reread,
        LossName.HOPE: reread,
        LossName.VARIANCE: config.metacog.var_reg,
        LossName.STYLE: losses.style_entropy,
    }


class LayerTraining:
    """The objective `layer`: the base is frozen, its states are given."""

    def __init__(
        self,
        layer: MetacogLayer,
        model: MetacogModel,
        config: RunConfig,
        *,
        train: Features,
        validation: Features,
        patience: int,
    ) -> None:
        self.layer, self._model, self._config = layer, model, config
        self._train, self._validation = train, validation
        self._weights = loss_weights(config)
        self._patience, self._worse = patience, 0
        self._best = float("inf")
        self._best_state = copy.deepcopy(layer.state_dict())
        self._starts = point_starts(train)
        rate, decay = config.run.learning_rate, config.run.weight_decay
        self.optimizers = Optimizers([Group("layer", list(layer.parameters()), rate, decay)])

    @property
    def is_finished(self) -> bool:
        """Whether validation has not improved for `patience` evaluations."""
        return self._worse >= self._patience

    def batches(self, start: int) -> Iterator[LayerBatch]:
        """Yield random prompts with all of their points, for ever."""
        step = start
        while True:
            generator = torch.Generator().manual_seed(self._config.run.seed * 1_000_003 + step)
            chosen = torch.randint(
                len(self._train.need), (self._config.run.batch,), generator=generator
            )
            yield batch_of(self._starts, chosen, generator)
            step += 1

    @contextmanager
    def step(self, batch: LayerBatch) -> Iterator[StepResult]:
        """Give the weighted losses of a batch."""
        self.layer.train()
        reports = self._reports(self._train, batch)
        loss = combine(reports, self._weights)
        yield StepResult(loss, loss_values(reports, self._weights), len(batch.points))

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """Return the losses on validation rollouts, and remember the best layer so far."""
        self.layer.eval()
        features = self._validation
        generator = torch.Generator().manual_seed(0)
        everyone = torch.arange(len(features.need))
        batch = batch_of(point_starts(features), everyone, generator)
        reports = self._reports(features, batch)
        values = loss_values(reports, self._weights)
        if values["train/loss"] < self._best:
            self._best, self._worse = values["train/loss"], 0
            self._best_state = copy.deepcopy(self.layer.state_dict())
        else:
            self._worse += 1
        return {f"eval/validation/{name.removeprefix('train/')}": v for name, v in values.items()}

    def save(self, directory: Path) -> None:
        """Write the layer that did best on validation so far, or as it is before any evaluation."""
        best = copy.deepcopy(self.layer)
        if math.isfinite(self._best):
            best.load_state_dict(self._best_state)
        self._model.with_layer(
            best, plans=self._config.metacog.plans, gate=self._model.gate
        ).save_layer(directory)

    def _reports(self, features: Features, batch: LayerBatch) -> Reports:
        caps = features.used[batch.caps]
        out = self.layer.read(features.prompt_states[batch.prompts].float(), caps)
        points = batch.points[features.used[batch.points] > 0]
        again = self.layer.reread(features.point_states[points].float(), features.used[points])
        return {
            **self._prompt_reports(features, batch, out),
            **self._point_reports(features, points, again),
        }

    def _prompt_reports(self, features: Features, batch: LayerBatch, out: LayerOutput) -> Reports:
        config, weight = self._config, self._config.metacog.per_layer_weight
        correct = features.ready[batch.caps]
        return {
            LossName.BUDGET: self._budget_report(features, batch, out),
            LossName.CONFIDENCE: confidence_loss(
                out.conf_raw,
                correct,
                torch.ones_like(correct, dtype=torch.bool),
                experts=out.per_layer["conf_raw_pl"],
                per_layer_weight=weight,
            ),
            LossName.VARIANCE: variance_loss(
                out.per_layer, out.budget_raw, var_reg=config.metacog.var_reg
            ),
            LossName.STYLE: style_loss(
                out.plan_logits, out.per_layer, style_entropy=config.losses.style_entropy
            ),
            LossName.PLAN: plan_loss(
                out.plan_logits,
                features.plan[batch.prompts],
                features.plan[batch.prompts] >= 0,
                experts=out.per_layer["plan_logits_pl"],
                per_layer_weight=weight,
            ),
        }

    def _budget_report(self, features: Features, batch: LayerBatch, out: LayerOutput) -> LossReport:
        config, weight = self._config, self._config.metacog.per_layer_weight
        natural = features.natural[batch.prompts]
        replied = torch.ones_like(natural, dtype=torch.bool)
        spending = Spending(out.budget, natural, replied, config.budget.max_tokens)
        experts = out.per_layer["budget_raw_pl"]
        if config.losses.budget_target == "used":
            tokens = self.layer.scale.tokens(experts)
            return budget_used(spending, experts=tokens, per_layer_weight=weight)
        need = features.need[batch.prompts]
        return budget_need(
            out.budget_raw,
            self.layer.scale.fraction(need),
            ~need.isnan(),
            torch.zeros_like(replied),
            spending,
            quantile=config.budget.quantile,
            experts=experts,
            per_layer_weight=weight,
        )

    def _point_reports(
        self, features: Features, points: Int[Tensor, " points"], again: RereadOutput
    ) -> Reports:
        weight = self._config.metacog.per_layer_weight
        needed, hope = features.needed[points], features.hope[points]
        ready = features.ready[points]
        return {
            LossName.NEEDED: needed_loss(
                again.needed,
                needed,
                ~needed.isnan(),
                experts=again.per_layer["needed_pl"],
                per_layer_weight=weight,
            ),
            LossName.READY: ready_loss(
                again.ready_raw,
                ready,
                torch.ones_like(ready, dtype=torch.bool),
                experts=again.per_layer["ready_raw_pl"],
                per_layer_weight=weight,
            ),
            LossName.HOPE: hope_loss(
                again.hope_raw,
                hope,
                ~hope.isnan(),
                experts=again.per_layer["hope_raw_pl"],
                per_layer_weight=weight,
            ),
        }


def point_starts(features: Features) -> Int[Tensor, " prompts_and_one"]:
    """Return where each prompt's points begin; they lie together, in the prompts' order."""
    counts = torch.bincount(features.prompt, minlength=len(features.need))
    return torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])


def batch_of(
    starts: Int[Tensor, " prompts_and_one"], prompts: Int[Tensor, " chosen"], generator: Any
) -> LayerBatch:
    """Return chosen prompts with all of their points and a random cap for each."""
    first, last = starts[prompts], starts[prompts + 1]
    counts = last - first
    within = torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    points = first.repeat_interleave(counts) + within
    draw = torch.rand(len(prompts), generator=generator)
    return LayerBatch(prompts, points, first + (draw * counts).long())
