"""Trains the layer on a frozen base's own rollouts: readings at the prompt, re-readings in THINK.

A gate changes the states that re-readings see, and listens to what the prompt's reading says. So with
a gate in place only the re-readings learn: what the gate listens to stays as it was.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

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
from metacog.model.layer_stats import layer_metrics
from metacog.model.metacog import MetacogLayer
from metacog.model.outputs import LayerOutput, RereadOutput
from metacog.model.shape import LayerShape
from metacog.train.best import Best
from metacog.train.features import Features
from metacog.train.loop import StepResult
from metacog.train.optim import Group, Optimizers

Reports = dict[LossName, LossReport]

_WIDE_SHARE = 0.3
"""Share of prompts whose confidence is meant at a budget beyond their trace's end."""
_WIDEST = 20.0


@dataclass(frozen=True)
class LayerBatch:
    """Rows of some prompts and of the points in their traces."""

    prompts: Int[Tensor, " prompts"]
    points: Int[Tensor, " points"]
    caps: Int[Tensor, " prompts"]
    """One point of each prompt: where the budget ends at which its confidence is meant."""
    budgets: Float[Tensor, " prompts"]
    """That budget in tokens: at the point, or anything above where the point is the trace's end."""


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


REREADINGS = frozenset({LossName.NEEDED, LossName.READY, LossName.HOPE})
"""Losses of the objective `reread`."""


class LayerTraining:
    """The objectives `layer` and `reread`: the base is frozen, its states are given.

    Args:
        layer: What learns; with `rereadings_only` its re-reading heads and experts alone.
        model: The base that made the rollouts, with the gate that was in place.
        config: Of the run.
        train: Rows of training rollouts.
        validation: Rows that training stops early on.
        patience: Evaluations without a better loss before it stops.
        rereadings_only: Leave the readings at the prompt as they are.
    """

    def __init__(
        self,
        layer: MetacogLayer,
        model: MetacogModel,
        config: RunConfig,
        *,
        train: Features,
        validation: Features,
        patience: int,
        rereadings_only: bool = False,
    ) -> None:
        self.layer, self._model, self._config = layer, model, config
        self._train, self._validation = train, validation
        self._weights = loss_weights(config)
        learning: list[nn.Module] = [layer]
        if rereadings_only:
            self._weights = {n: w if n in REREADINGS else 0.0 for n, w in self._weights.items()}
            learning = [layer.reread_heads, layer.reread_experts]
        layer.requires_grad_(False)
        for module in learning:
            module.requires_grad_(True)
        self._best = Best(layer, patience=patience)
        self._starts = point_starts(train)
        rate, decay = config.run.learning_rate, config.run.weight_decay
        parameters = [p for module in learning for p in module.parameters()]
        self.optimizers = Optimizers([Group("layer", parameters, rate, decay)])

    @property
    def is_finished(self) -> bool:
        """Whether validation has not improved for `patience` evaluations."""
        return self._best.is_stale

    def batches(self, start: int) -> Iterator[LayerBatch]:
        """Yield random prompts with all of their points, for ever."""
        step = start
        while True:
            generator = torch.Generator().manual_seed(self._config.run.seed * 1_000_003 + step)
            chosen = torch.randint(
                len(self._train.need), (self._config.run.batch,), generator=generator
            )
            yield batch_of(self._train, self._starts, chosen, generator)
            step += 1

    @contextmanager
    def step(self, batch: LayerBatch) -> Iterator[StepResult]:
        """Give the weighted losses of a batch."""
        self.layer.train()
        out, reports = self._reports(self._train, batch)
        loss = combine(reports, self._weights)
        metrics = {
            **loss_values(reports, self._weights),
            **layer_metrics(out, self.layer.scale),
            **spending_metrics(out.budget.detach(), self._train.natural[batch.prompts]),
        }
        yield StepResult(loss, metrics, len(batch.points))

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """Return the losses on validation rollouts, and remember the best layer so far."""
        self.layer.eval()
        features = self._validation
        generator = torch.Generator().manual_seed(0)
        everyone = torch.arange(len(features.need))
        batch = batch_of(features, point_starts(features), everyone, generator)
        _, reports = self._reports(features, batch)
        values = loss_values(reports, self._weights)
        self._best.offer(values["train/loss"])
        return {f"eval/validation/{name.removeprefix('train/')}": v for name, v in values.items()}

    def save(self, directory: Path) -> None:
        """Write the layer that did best on validation so far, or as it is before any evaluation."""
        self._with(self._best.module_of(self.layer)).save_layer(directory)

    def current(self) -> MetacogModel:
        """Return the model with the layer as it is now."""
        return self._with(self.layer)

    def _with(self, layer: MetacogLayer) -> MetacogModel:
        reader = self._model.reader
        plans = self._config.metacog.plans if reader is None else reader.plans
        return self._model.with_layer(layer, plans=plans, gate=self._model.gate)

    def _reports(self, features: Features, batch: LayerBatch) -> tuple[LayerOutput, Reports]:
        out = self.layer.read(features.prompt_states[batch.prompts].float(), batch.budgets)
        points = batch.points[features.used[batch.points] > 0]
        again = self.layer.reread(features.point_states[points].float(), features.used[points])
        return out, {
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


def spending_metrics(
    predicted: Float[Tensor, " prompts"], used: Float[Tensor, " prompts"]
) -> dict[str, float]:
    """Return the THINK tokens of a batch beside its predicted budgets, by event name."""
    return {
        "think_tokens_used": used.mean().item(),
        "metacog/budget/predicted_mean": predicted.mean().item(),
        "metacog/budget/used_mean": used.mean().item(),
        "metacog/budget/mae": (predicted - used).abs().mean().item(),
    }


def point_starts(features: Features) -> Int[Tensor, " prompts_and_one"]:
    """Return where each prompt's points begin; they lie together, in the prompts' order."""
    counts = torch.bincount(features.prompt, minlength=len(features.need))
    return torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])


def batch_of(
    features: Features,
    starts: Int[Tensor, " prompts_and_one"],
    prompts: Int[Tensor, " chosen"],
    generator: torch.Generator,
) -> LayerBatch:
    """Return chosen prompts with all of their points and a random budget for each.

    Most budgets end at a point of the trace. The others are larger than the whole trace, as a
    generous budget or none is, up to `_WIDEST` times: there the trace ends as it did.
    """
    first, last = starts[prompts], starts[prompts + 1]
    counts = last - first
    within = torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    points = first.repeat_interleave(counts) + within
    draw, wide, factor = torch.rand(3, len(prompts), generator=generator)
    beyond = wide < _WIDE_SHARE
    caps = torch.where(beyond, last - 1, first + (draw * counts).long())
    stretch = torch.where(beyond, _WIDEST**factor, 1.0)
    return LayerBatch(prompts, points, caps, features.used[caps].clamp(min=1) * stretch)
