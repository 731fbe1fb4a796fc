"""Trains the layer on a frozen base's own rollouts: readings at the prompt, re-readings in THINK.

A gate changes the states that re-readings see, and listens to what the prompt's reading says. So with
a gate in place only the re-readings and the budget learn: what the gate listens to stays as it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from metacog.config.objective import RereadObjective
from metacog.config.run import RunConfig
from metacog.losses.combine import LossName, combine, loss_values
from metacog.losses.confidence import confidence_figures, reliability_figures
from metacog.model.bundle import MetacogModel
from metacog.model.learner import Learner
from metacog.model.metacog import MetacogLayer
from metacog.model.outputs import LayerOutput
from metacog.model.shape import LayerShape
from metacog.train.best import Best
from metacog.train.features import Features
from metacog.train.layer_losses import (
    LayerBatch,
    LayerLosses,
    Reports,
    batch_of,
    layer_tallies,
    loss_weights,
    plan_tallies,
    point_starts,
    spending_tallies,
)
from metacog.train.optim import Group, Optimizers
from metacog.train.processes import ALONE, Processes
from metacog.train.result import Counts, StepResult
from metacog.train.state import State

_REREADINGS = frozenset({LossName.NEEDED, LossName.READY, LossName.GAIN})
"""Losses of re-readings."""
Taught = Literal["all", "rereadings", "rereadings and budget"]
"""What of the layer learns."""


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


def taught_by(objective: RereadObjective) -> Taught:
    """Return which part of a layer an objective teaches anew."""
    return "rereadings and budget" if objective.budgets else "rereadings"


def taught_modules(layer: MetacogLayer, taught: Taught) -> list[nn.Module]:
    """Return what of a layer learns."""
    if taught == "all":
        return [layer]
    budget = [layer.heads.budget, layer.experts.budget]
    return [
        layer.reread_heads,
        layer.reread_experts,
        *(budget if taught == "rereadings and budget" else []),
    ]


class LayerTraining:
    """The objectives `layer` and `reread`: the base is frozen, its states are given.

    Args:
        layer: What learns, or holds it.
        model: The base that made the rollouts, with the gate that was in place.
        config: Of the run.
        train: Rows of training rollouts.
        validation: Rows that training stops early on.
        patience: Evaluations without a better loss before it stops.
        taught: Of the layer; what a gate listens to is in neither of the smaller parts.
        processes: Over which a step's prompts are spread, `run.batch` to each.
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
        taught: Taught = "all",
        processes: Processes = ALONE,
    ) -> None:
        self._processes = processes
        self.layer, self._model, self._config = layer, model, config
        self._train, self._validation = train, validation
        self._weights = loss_weights(config)
        learning = taught_modules(layer, taught)
        if taught != "all":
            losses = set(_REREADINGS)
            if taught == "rereadings and budget":
                losses.add(LossName.BUDGET)
            self._weights = {n: w if n in losses else 0.0 for n, w in self._weights.items()}
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
            whole = self._config.run.batch * self._processes.size
            known = self._train.need
            chosen = torch.randint(len(known), (whole,), generator=generator, device="cpu")
            chosen = chosen.to(known.device)
            mine = self._processes.share(range(whole))
            yield batch_of(self._train, self._starts, chosen, generator, rows=mine)
            step += 1

    def parts(self, batch: LayerBatch) -> list[LayerBatch]:
        """Return the batch: it passes in one go."""
        return [batch]

    def examples(self, batch: LayerBatch) -> list[str]:
        """Return the key of each prompt's question, in hexadecimal."""
        return [f"{int(key):x}" for key in self._train.question[batch.prompts]]

    @torch.no_grad()
    def counts(self, parts: Sequence[LayerBatch]) -> Counts:
        """Return the labels of each loss in the batch."""
        (batch,) = parts
        return {name: report.count for name, report in self._reports(batch, self.layer)[1].items()}

    def learner(self) -> Learner:
        """Return the layer: the base has done its part."""
        return Learner(layer=self.layer)

    @contextmanager
    def step(
        self, batch: LayerBatch, counts: Counts | None = None, learner: Learner | None = None
    ) -> Iterator[StepResult]:
        """Give the weighted losses of a batch."""
        layer = (learner or self.learner()).layer
        assert layer is not None
        layer.train()
        out, reports = self._reports(batch, layer)
        loss = combine(reports, self._weights, counts)
        tallies = {
            **layer_tallies(out, self.layer.scale),
            **spending_tallies(out.budget, self._train.natural[batch.prompts]),
            **plan_tallies(out, self._config.metacog.plans),
        }
        yield StepResult(loss, reports, self._weights, points=len(batch.points), tallies=tallies)

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """Return the losses on validation rollouts, and remember the best layer so far."""
        self.layer.eval()
        features = self._validation
        generator = torch.Generator().manual_seed(0)
        everyone = torch.arange(len(features.need))
        batch = batch_of(features, point_starts(features), everyone, generator)
        out, reports = LayerLosses(self.layer, self._config).reports(features, batch)
        values = loss_values(reports, self._weights)
        self._best.offer(values["train/loss"])
        named = {f"eval/validation/{name.removeprefix('train/')}": v for name, v in values.items()}
        chances = out.conf_raw.sigmoid().squeeze(-1)
        right = features.ready[batch.caps]
        return {
            **named,
            **confidence_figures(chances, right),
            **reliability_figures(chances, right),
        }

    def state(self) -> State:
        """Return the best weights so far: everything else follows from seed and step."""
        return self._best.state()

    def load_state(self, state: State) -> None:
        """Go on from an earlier state."""
        self._best.load_state(state)

    def save(self, directory: Path, *, whole: bool = True) -> None:  # noqa: ARG002 - the base stays
        """Write the layer that did best on validation so far, or as it is before any evaluation."""
        self._with(self._best.module_of(self.layer)).save_layer(directory)

    def current(self) -> MetacogModel:
        """Return the model with the layer as it is now."""
        return self._with(self.layer)

    def _reports(self, batch: LayerBatch, layer: MetacogLayer) -> tuple[LayerOutput, Reports]:
        return LayerLosses(layer, self._config).reports(self._train, batch)

    def _with(self, layer: MetacogLayer) -> MetacogModel:
        reader = self._model.reader
        plans = self._config.metacog.plans if reader is None else reader.plans
        return self._model.with_layer(layer, plans=plans, gate=self._model.gate)
