"""The layer's losses on rows of features: readings at the prompt, re-readings at points in THINK."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metacog.config.run import RunConfig
from metacog.losses.budget import Spending, budget_need, budget_used
from metacog.losses.combine import LossName
from metacog.losses.confidence import confidence_loss
from metacog.losses.plan import plan_loss
from metacog.losses.report import LossReport, Tally
from metacog.losses.reread import gain_loss, needed_loss, ready_loss
from metacog.losses.style import style_loss
from metacog.losses.variance import variance_loss
from metacog.model.layer_stats import layer_rows
from metacog.model.metacog import MetacogLayer
from metacog.model.outputs import LayerOutput, RereadOutput
from metacog.model.scale import BudgetScale
from metacog.train.features import Features

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


class LayerLosses:
    """What a layer says along the traces of features, against their labels."""

    def __init__(self, layer: MetacogLayer, config: RunConfig) -> None:
        self.layer, self._config = layer, config

    def reports(self, features: Features, batch: LayerBatch) -> tuple[LayerOutput, Reports]:
        """Return the reading of a batch's prompts, and the losses of readings and re-readings."""
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
        needed, ready = features.needed[points], features.ready[points]
        gain = (features.hope[points] - ready).clamp(min=0)
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
            LossName.GAIN: gain_loss(
                again.gain_raw,
                gain,
                ~gain.isnan(),
                experts=again.per_layer["gain_raw_pl"],
                per_layer_weight=weight,
            ),
        }


def loss_weights(config: RunConfig) -> dict[LossName, float]:
    """Return the weight of every loss of the layer."""
    losses, reread = config.losses, config.losses.lambda_reread
    return {
        LossName.PLAN: losses.lambda_plan,
        LossName.BUDGET: losses.lambda_budget_reg,
        LossName.CONFIDENCE: losses.lambda_confidence,
        LossName.NEEDED: reread,
        LossName.READY: reread,
        LossName.GAIN: reread,
        LossName.VARIANCE: config.metacog.var_reg,
        LossName.STYLE: losses.style_entropy,
    }


def spending_tallies(
    predicted: Float[Tensor, " prompts"], used: Float[Tensor, " prompts"]
) -> dict[str, Tally]:
    """Return the THINK tokens of replies beside their predicted budgets, by event name."""
    said = predicted.detach()
    return {
        "think_tokens_used": Tally.of(used),
        "metacog/budget/predicted_mean": Tally.of(said),
        "metacog/budget/used_mean": Tally.of(used),
        "metacog/budget/mae": Tally.of((said - used).abs()),
    }


def plan_tallies(out: LayerOutput, plans: Sequence[str]) -> dict[str, Tally]:
    """Return the mean probability of each plan, by event name."""
    chances = out.plan_logits.detach().softmax(-1)
    return {f"metacog/plan/{name}": Tally.of(chances[:, at]) for at, name in enumerate(plans)}


def layer_tallies(out: LayerOutput, scale: BudgetScale) -> dict[str, Tally]:
    """Return how the blocks' opinions differ, over the rows of a reading, by event name."""
    return {name: Tally.of(rows) for name, rows in layer_rows(out, scale).items()}


def point_starts(features: Features) -> Int[Tensor, " prompts_and_one"]:
    """Return where each prompt's points begin; they lie together, in the prompts' order."""
    counts = torch.bincount(features.prompt, minlength=len(features.need))
    return torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])


def batch_of(
    features: Features,
    starts: Int[Tensor, " prompts_and_one"],
    prompts: Int[Tensor, " chosen"],
    generator: torch.Generator,
    rows: Sequence[int] | None = None,
) -> LayerBatch:
    """Return chosen prompts with all of their points and a random budget for each.

    Most budgets end at a point of the trace. The others are larger than the whole trace, as a
    generous budget or none is, up to `_WIDEST` times: there the trace ends as it did.

    Args:
        features: All rows.
        starts: `point_starts` of them.
        prompts: The chosen ones.
        generator: Of the budgets.
        rows: Which of the chosen prompts are returned, by default all; the budgets of each are the
            same in any case.
    """
    draws = torch.rand(3, len(prompts), generator=generator, device="cpu").to(prompts.device)
    if rows is not None:
        mine = torch.tensor(list(rows))
        prompts, draws = prompts[mine], draws[:, mine]
    first, last = starts[prompts], starts[prompts + 1]
    counts = last - first
    within = torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    points = first.repeat_interleave(counts) + within
    draw, wide, factor = draws
    beyond = wide < _WIDE_SHARE
    caps = torch.where(beyond, last - 1, first + (draw * counts).long())
    stretch = torch.where(beyond, _WIDEST**factor, 1.0)
    return LayerBatch(prompts, points, caps, features.used[caps].clamp(min=1) * stretch)
