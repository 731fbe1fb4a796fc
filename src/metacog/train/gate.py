"""Trains the gate on the base's own shortest right rollouts; base and layer stay as they are."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from metacog.config.run import RunConfig
from metacog.decode.collect import Rollout
from metacog.losses.answer import answer_loss
from metacog.losses.combine import LossName, combine
from metacog.losses.report import LossReport, Tally
from metacog.model.bundle import MetacogModel
from metacog.model.gate import FeedbackGate, GateShape
from metacog.model.learner import Learner
from metacog.records import Generation
from metacog.train.best import Best
from metacog.train.gated import (
    gate_tallies,
    gated,
    padding_tallies,
    read_prompts,
    reply_batch,
    reply_logits,
    segment_tallies,
)
from metacog.train.optim import Group, Optimizers
from metacog.train.processes import ALONE, Processes
from metacog.train.result import Counts, StepResult
from metacog.train.state import State


def gate_shape(model: MetacogModel, config: RunConfig) -> GateShape:
    """Return the shape of a gate for this model; without an index it sits on the last block."""
    assert model.reader is not None, "a gate needs a layer that reads the prompt."
    layer, feedback = model.reader.layer.shape, config.feedback
    index = len(model.base.blocks) - 1 if feedback.layer is None else feedback.layer
    return GateShape(
        hidden=model.base.hidden,
        inputs=layer.proj_dim + layer.num_plans + 1,
        layer=index,
        site=feedback.site,
        switch=feedback.switch,
        strength=feedback.strength,
    )


def shortest_right(rollouts: Iterable[Rollout]) -> list[Generation]:
    """Return each question's right rollout with the fewest tokens; nothing where none is right."""
    best: dict[str, Generation] = {}
    for rollout in rollouts:
        if not rollout.correct or not rollout.generation.finished:
            continue
        known = best.get(rollout.question.id)
        if known is None or rollout.generation.spend < known.spend:
            best[rollout.question.id] = rollout.generation
    return list(best.values())


class GateTraining:
    """The objective `gate`: cross-entropy on replies, with only the gate learning."""

    def __init__(
        self,
        model: MetacogModel,
        feedback: FeedbackGate,
        config: RunConfig,
        *,
        train: Sequence[Generation],
        validation: Sequence[Generation],
        patience: int = 5,
        processes: Processes = ALONE,
    ) -> None:
        assert model.reader is not None
        self._processes = processes
        self.model = MetacogModel(model.base, model.reader, feedback, model.decoding)
        self._config, self._train, self._validation = config, train, validation
        for module in (model.base.model, model.reader.layer):
            module.requires_grad_(False)
        learning = [p for p in feedback.parameters() if p.requires_grad]
        group = Group("gate", learning, config.run.learning_rate)
        self.optimizers = Optimizers([group])
        self._best = Best(feedback, patience=patience)

    @property
    def is_finished(self) -> bool:
        """Whether validation has not improved for `patience` evaluations."""
        return self._best.is_stale

    def batches(self, start: int) -> Iterator[list[Generation]]:
        """Yield random replies of like length, for ever."""
        step, size = start, self._config.run.batch * self._processes.size
        ordered = sorted(self._train, key=lambda reply: len(reply.steps))
        while True:
            generator = torch.Generator().manual_seed(self._config.run.seed * 1_000_003 + step)
            last = max(1, len(ordered) - size + 1)
            first = int(torch.randint(last, (1,), generator=generator, device="cpu"))
            yield list(self._processes.share(ordered[first : first + size]))
            step += 1

    def parts(self, batch: list[Generation]) -> list[list[Generation]]:
        """Return the batch: it passes in one go."""
        return [batch]

    def examples(self, batch: Sequence[Generation]) -> list[str]:
        """Return each reply's prompt."""
        return [self.model.base.decode(reply.prompt) for reply in batch]

    def counts(self, parts: Sequence[list[Generation]]) -> Counts:
        """Return the tokens that are learned."""
        steps = (step for replies in parts for reply in replies for step in reply.steps)
        trained = sum(step.sampled and not step.altered for step in steps)
        return {LossName.ANSWER: torch.tensor(float(trained))}

    def learner(self) -> Learner:
        """Return the gate, and what gradients pass through on their way to it."""
        return Learner.of(self.model)

    @contextmanager
    def step(
        self,
        batch: Sequence[Generation],
        counts: Counts | None = None,
        learner: Learner | None = None,
    ) -> Iterator[StepResult]:
        """Give the cross-entropy of a batch of replies, the gate on until the gradient is taken."""
        model = self.model if learner is None else learner.inside(self.model)
        assert model.gate is not None
        model.gate.train()
        with self._report(batch, model) as (report, tallies):
            reports, weights = {LossName.ANSWER: report}, {LossName.ANSWER: 1.0}
            loss = combine(reports, weights, counts)
            yield StepResult(loss, reports, weights, int(report.count), tallies=tallies)

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """Return the cross-entropy of validation replies with the gate on."""
        assert self.model.gate is not None
        self.model.gate.eval()
        size = self._config.run.batch
        whole: LossReport | None = None
        for first in range(0, len(self._validation), size):
            some = self._validation[first : first + size]
            with self._report(some, self.model) as (report, _):
                whole = report if whole is None else whole + report
        if whole is None:
            return {}
        self._best.offer(float(whole.mean()))
        return {"eval/validation/loss_answer": float(whole.mean())}

    def current(self) -> MetacogModel:
        """Return the model with the gate as it is now."""
        return self.model

    def state(self) -> State:
        """Return the best weights so far: everything else follows from seed and step."""
        return self._best.state()

    def load_state(self, state: State) -> None:
        """Go on from an earlier state."""
        self._best.load_state(state)

    def save(self, directory: Path, *, whole: bool = True) -> None:  # noqa: ARG002 - the base stays
        """Write layer and gate, the gate that did best on validation so far."""
        assert self.model.gate is not None
        replace(self.model, gate=self._best.module_of(self.model.gate)).save_layer(directory)

    @contextmanager
    def _report(
        self, replies: Sequence[Generation], model: MetacogModel
    ) -> Iterator[tuple[LossReport, dict[str, Tally]]]:
        batch = reply_batch(replies, model.base.pad_id)
        reading = read_prompts(model, batch.prompts)
        with gated(model, reading, batch.gated) as state:
            report = answer_loss(*reply_logits(model, batch))
            used = torch.tensor([float(reply.budget.used) for reply in replies])
            tallies = {"think_tokens_used": Tally.of(used), **gate_tallies(state, batch.thinking)}
            tallies |= segment_tallies(replies, model.base)
            yield report, {**tallies, **padding_tallies(batch.valid)}
