"""Practice: the model learns from its own rollouts, under the controller and gate that serve.

Each step rolls out groups of replies, rewards what is right and short, and makes the tokens of
replies that did better than their group likelier. The layer goes on learning beside: budgets and
confidence from the groups, and readings and re-readings from the traces of the latest uncapped
rollouts, valued as the objective `layer` values them.

The gate's switch is 0 or 1 here as in serving, so that log-probabilities are the policy's; only
what it multiplies by learns.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from jaxtyping import Float, Int
from pydantic import TypeAdapter
from torch import Tensor

from metacog.config.objective import PracticeObjective
from metacog.config.run import RunConfig
from metacog.data.tasks.questions import Question
from metacog.decode.collect import Rollout
from metacog.losses.closing import closing_loss
from metacog.losses.combine import LossName, combine
from metacog.losses.policy import policy_loss
from metacog.losses.report import LossReport
from metacog.model.adapt import Adapted
from metacog.model.bundle import MetacogModel
from metacog.model.gate import FeedbackGate
from metacog.model.learner import Learner
from metacog.model.metacog import MetacogLayer
from metacog.model.outputs import LayerOutput
from metacog.records import Generation
from metacog.train.checks import refuse_few_questions
from metacog.train.features import Features, extract, joined
from metacog.train.gated import (
    gate_tallies,
    gated,
    padding_tallies,
    prompt_states,
    reply_batch,
    reply_logits,
    segment_tallies,
)
from metacog.train.group_losses import group_reports, group_tallies, reply_figures
from metacog.train.groups import (
    Closings,
    Group,
    acting_plans,
    closings_of,
    judged,
    roll_out_groups,
    validated,
)
from metacog.train.layer_losses import (
    LayerLosses,
    Reports,
    batch_of,
    layer_tallies,
    loss_weights,
    plan_tallies,
    point_starts,
)
from metacog.train.optim import Optimizers, parameter_groups
from metacog.train.processes import ALONE, Processes
from metacog.train.result import Counts, StepResult
from metacog.train.saving import save_adapted
from metacog.train.state import State

_ROLLOUTS = TypeAdapter(list[tuple[Rollout, ...]])
_CLOSINGS = TypeAdapter(list[tuple[Closings | None, ...]])
_VALIDATED = 64
"""Questions of a small evaluation: a group of replies to each."""
_REPLAYED = 4
"""Prompts of earlier rollouts that the layer learns from in a step, as multiples of the step's."""


@dataclass(frozen=True)
class PracticeBatch:
    """One step's rollouts."""

    groups: Sequence[Group]
    states: Float[Tensor, "groups layers hidden"]
    """Of every block at the end of each prompt."""
    number: int


@dataclass(frozen=True)
class LayerPart:
    """What the layer learns from a step: all of its groups, and earlier traces."""

    batch: PracticeBatch


@dataclass(frozen=True)
class PolicyPart:
    """Replies of like length that pass through the model together."""

    replies: Sequence[Generation]
    advantages: Float[Tensor, " replies"]
    states: Float[Tensor, "replies layers hidden"]
    closings: Sequence[Closings | None]


PracticePart = LayerPart | PolicyPart


def mark_taught(layer: MetacogLayer, gate: FeedbackGate | None) -> None:
    """Give a gradient to exactly what of layer and gate practice teaches."""
    layer.requires_grad_(True)
    if gate is not None:
        gate.teach_projection()


class Practice:
    """The objective `practice`.

    Args:
        model: With layer and gate.
        adapted: What of its base learns.
        config: Of the run.
        objective: Its part about practice.
        train: Questions to practise on.
        validation: Questions of the small evaluations.
        processes: Over which a step's groups are spread, alike.
    """

    is_finished = False

    def __init__(
        self,
        model: MetacogModel,
        adapted: Adapted,
        config: RunConfig,
        objective: PracticeObjective,
        *,
        train: Sequence[Question],
        validation: Sequence[Question],
        processes: Processes = ALONE,
    ) -> None:
        assert model.reader is not None
        self.model, self.layer = model, model.reader.layer
        self._config, self._objective = config, objective
        self._processes = processes
        self._size = config.run.batch * config.run.grad_accum * processes.size
        refuse_few_questions(config, questions=len(train), processes=processes.size)
        self._train, self._validation = train, validation[:_VALIDATED]
        self._weights = {
            **loss_weights(config),
            LossName.POLICY: config.losses.answer,
            LossName.CLOSING: config.losses.closing,
        }
        if not acting_plans(model):  # Nothing else teaches the plan head: it would end up uniform.
            self._weights[LossName.STYLE] = 0.0
        self._replay: deque[Features] = deque(maxlen=objective.replay)
        self._current: PracticeBatch | None = None
        self._adapted = adapted
        mark_taught(self.layer, model.gate)
        self.optimizers = Optimizers(parameter_groups(config, self.layer, model.gate, adapted))

    def batches(self, start: int) -> Iterator[PracticeBatch]:
        """Yield rollouts of random questions as the policy is at that step, for ever."""
        number, batch = start, self._current
        while True:
            if batch is None or number % self._objective.updates == 0:
                self._current = batch = self._roll_out(number)
            yield replace(batch, number=number)
            number += 1

    def parts(self, batch: PracticeBatch) -> list[PracticePart]:
        """Return the layer's part, then all replies by length, `run.batch` groups' worth at a time."""
        size = self._config.run.batch * self._objective.group_size
        replies = [reply for group in batch.groups for reply in group.replies]
        advantages = torch.cat([group.advantages for group in batch.groups])
        states = batch.states.repeat_interleave(self._objective.group_size, 0)
        order = sorted(range(len(replies)), key=lambda row: len(replies[row].steps))
        closings = [closing for group in batch.groups for closing in group.closings]
        found: list[PracticePart] = [LayerPart(batch)]
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            some = [replies[row] for row in rows]
            valued = [closings[row] for row in rows]
            found.append(PolicyPart(some, advantages[rows], states[rows], valued))
        return found

    def examples(self, batch: PracticeBatch) -> list[str]:
        """Return the id of each group's question."""
        return [group.rollouts[0].question.id for group in batch.groups]

    @torch.no_grad()
    def counts(self, parts: Sequence[PracticePart]) -> Counts:
        """Return the labels of each loss in all parts."""
        found = {name: torch.tensor(0.0) for name in (LossName.POLICY, LossName.CLOSING)}
        for part in parts:
            if isinstance(part, LayerPart):
                reports = self._layer_reports(part, self.layer)
                found |= {name: report.count for name, report in reports.items()}
            else:
                steps = (step for reply in part.replies for step in reply.steps)
                found[LossName.POLICY] += sum(step.sampled and not step.altered for step in steps)
                cuts = (len(c.cuts) - 1 for c in part.closings if c is not None)
                found[LossName.CLOSING] += sum(cuts)
        return found

    def learner(self) -> Learner:
        """Return base, layer and gate."""
        return Learner.of(self.model)

    @contextmanager
    def step(
        self, part: PracticePart, counts: Counts | None = None, learner: Learner | None = None
    ) -> Iterator[StepResult]:
        """Give the weighted losses of a part, the gate on until the gradient is taken."""
        model = self.model if learner is None else learner.inside(self.model)
        assert model.reader is not None
        layer = model.reader.layer.train()
        if isinstance(part, LayerPart):
            yield self._layer_step(part, counts, layer)
            return
        reading = layer.read(part.states, telemetry=False)
        batch = reply_batch(part.replies, model.base.pad_id)
        with gated(model, reading, batch.gated) as state:
            logits, targets, trained = reply_logits(model, batch)
            report = policy_loss(
                logits,
                targets,
                trained,
                torch.tensor([step.logprob for reply in part.replies for step in reply.steps]),
                part.advantages.repeat_interleave(_lengths(part.replies)),
                clip_ratio=self._objective.clip_ratio,
            )
            reports = {LossName.POLICY: report, LossName.CLOSING: self._closing(part, logits)}
            loss = combine(reports, self._weights, counts)
            tallies = {**gate_tallies(state, batch.thinking), **padding_tallies(batch.valid)}
            yield StepResult(loss, reports, self._weights, len(targets), tallies=tallies)

    def _closing(self, part: PolicyPart, logits: Float[Tensor, "tokens vocab"]) -> LossReport:
        """Return the loss on stopping at the line ends of the part's uncapped replies."""
        lengths = _lengths(part.replies)
        starts = (lengths.cumsum(0) - lengths).tolist()
        width = max(len(c.cuts) if c is not None else 1 for c in part.closings)
        where = torch.zeros(len(starts), width, dtype=torch.long)
        value, known = torch.zeros(len(starts), width), torch.zeros(len(starts), width).bool()
        for row, (start, closing) in enumerate(zip(starts, part.closings, strict=True)):
            if closing is not None:
                count = len(closing.cuts)
                where[row, :count] = start + torch.tensor(closing.cuts)
                value[row, :count] = torch.tensor(closing.values)
                known[row, :count] = True
        closer = self.model.base.tags.think_close[0]
        return closing_loss(logits[where].log_softmax(-1)[..., closer], value, known)

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """Return accuracy and spend on validation questions, by the source of the budget."""
        return validated(self.model, self._validation, self._objective, seed=self._config.run.seed)

    def current(self) -> MetacogModel:
        """Return the policy as it is now, its layer not calibrated anew."""
        assert self.model.reader is not None
        plans = self.model.reader.plans
        return self.model.with_layer(self.layer, plans=plans, gate=self.model.gate)

    def state(self) -> State:
        """Return the traces that the layer goes on learning from, and rollouts not yet done with."""
        tensors = {
            f"replay/{place}/{column}": tensor
            for place, features in enumerate(self._replay)
            for column, tensor in features.columns().items()
        }
        if self._objective.updates == 1 or self._current is None:
            return State(tensors, {"replay": len(self._replay), "rollouts": []})
        tensors["rollouts/states"] = self._current.states
        groups = self._current.groups
        return State(
            tensors,
            {
                "replay": len(self._replay),
                "rollouts": _ROLLOUTS.dump_python([g.rollouts for g in groups], mode="json"),
                "closings": _CLOSINGS.dump_python([g.closings for g in groups], mode="json"),
            },
        )

    def load_state(self, state: State) -> None:
        """Go on with the traces and the rollouts of an earlier state."""
        self._replay.clear()
        for place in range(state.values["replay"]):
            prefix = f"replay/{place}/"
            mine = {
                n.removeprefix(prefix): t for n, t in state.tensors.items() if n.startswith(prefix)
            }
            self._replay.append(Features(**mine))
        if state.values["rollouts"]:
            most = self._config.budget.max_tokens
            groups = [
                judged(group, closings, self._objective, max_tokens=most)
                for group, closings in zip(
                    _ROLLOUTS.validate_python(state.values["rollouts"]),
                    _CLOSINGS.validate_python(state.values["closings"]),
                    strict=True,
                )
            ]
            self._current = PracticeBatch(groups, state.tensors["rollouts/states"], number=0)

    def save(self, directory: Path, *, whole: bool = True) -> None:
        """Write base, layer and gate as one model, or of the base only what it has learned."""
        save_adapted(self.current(), self._adapted, directory, whole=whole)

    def _roll_out(self, number: int) -> PracticeBatch:
        seed = self._config.run.seed
        asked = Random(f"{seed}/{number}").sample(self._train, k=self._size)
        questions = self._processes.share(asked)
        first = (number * self._processes.size + self._processes.rank) * len(questions)
        rollouts = roll_out_groups(self.model, questions, self._objective, seed=seed, first=first)
        self._remember([group[self._objective.predicted] for group in rollouts], number)
        most = self._config.budget.max_tokens
        every = [rollout for group in rollouts for rollout in group]
        closings: Sequence[Closings | None] = [None] * len(every)
        if self._config.losses.closing:
            closings = closings_of(self.model, every, self._objective, most)
        size = self._objective.group_size
        groups = [
            judged(group, closings[place * size :][:size], self._objective, max_tokens=most)
            for place, group in enumerate(rollouts)
        ]
        states = prompt_states(self.model, [group.replies[0].prompt for group in groups])
        return PracticeBatch(groups, states, number)

    def _remember(self, traces: Sequence[Rollout], number: int) -> None:
        """Value the step's uncapped traces, for the layer to learn from in this step and later."""
        temperature = self.model.decoding.sampling.temperature
        rows = extract(self.model, traces, temperature=temperature, seed=number)
        self._replay.append(joined(list(rows)))

    def _layer_step(
        self, part: LayerPart, counts: Counts | None, layer: MetacogLayer
    ) -> StepResult:
        assert self.model.reader is not None
        out = self._read(part.batch, layer)
        reports = self._layer_reports(part, layer)
        loss = combine(reports, self._weights, counts)
        tallies = {
            **layer_tallies(out, self.layer.scale),
            **group_tallies(part.batch.groups, out.budget),
            **plan_tallies(out, self.model.reader.plans),
            **segment_tallies([r for g in part.batch.groups for r in g.replies], self.model.base),
        }
        figures = reply_figures(part.batch.groups)
        return StepResult(loss, reports, self._weights, tallies=tallies, replies=figures)

    def _read(self, batch: PracticeBatch, layer: MetacogLayer) -> LayerOutput:
        """Return the reading of every reply's prompt, its confidence at the reply's cap."""
        caps = torch.tensor([cap for group in batch.groups for cap in group.caps])
        return layer.read(batch.states.repeat_interleave(self._objective.group_size, 0), caps)

    def _layer_reports(self, part: LayerPart, layer: MetacogLayer) -> Reports:
        assert self.model.reader is not None
        out = self._read(part.batch, layer)
        plans = self.model.reader.plans if acting_plans(self.model) else ()
        reports = group_reports(part.batch.groups, out, self.layer.scale, self._config, plans=plans)
        features = joined(list(self._replay))
        generator = torch.Generator().manual_seed(
            self._config.run.seed * 1_000_003 + part.batch.number
        )
        most = min(len(features.need), _REPLAYED * len(part.batch.groups))
        order = torch.randperm(len(features.need), generator=generator, device="cpu")
        chosen = order[:most].to(features.need.device)
        earlier = batch_of(features, point_starts(features), chosen, generator)
        losses = LayerLosses(layer, self._config)
        for name, report in losses.reports(features, earlier)[1].items():
            reports[name] = reports[name] + report if name in reports else report
        return reports


def _lengths(replies: Sequence[Generation]) -> Int[Tensor, " replies"]:
    return torch.tensor([len(reply.steps) for reply in replies])
