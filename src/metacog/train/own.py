"""A model's own shortest right replies as traces to imitate, whole or cut where they are enough."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random

from metacog.decode.collect import Rollout, trace_of
from metacog.decode.prefixes import Trace, prefix_values
from metacog.model.base import Base
from metacog.model.bundle import MetacogModel
from metacog.records import CloseReason, Generation
from metacog.train.gate import shortest_right
from metacog.train.given import GivenTrace, as_trace
from metacog.train.processes import ALONE, Processes
from metacog.train.traces import StepwiseTraces


def shortest_enough(
    model: MetacogModel, rollouts: Iterable[Rollout], *, sure: float | None
) -> list[Generation]:
    """Return the shortest right reply to each question; none where none is right.

    With `sure` each right rollout that closed by itself is cut first, at the line end from which the
    right answer keeps that probability (`PrefixValues.enough_at`), closed there and answered. Without it
    a rollout that a re-reading closed as `confident` counts as one that closed by itself.

    Args:
        model: That made them, with its gate where it has one.
        rollouts: Without a cap, or where `sure` is None under the model's own budgets.
        sure: Probability of the right answer at the temperature that serves; None keeps them whole.
    """
    right = [r for r in rollouts if r.correct and _closed_well(r.generation)]
    if sure is None:
        return shortest_right([_as_its_own(model.base, rollout) for rollout in right])
    traces = [trace_of(rollout, model.base) for rollout in right]
    temperature = model.decoding.sampling.temperature
    best: dict[str, Generation] = {}
    for rollout, trace, value in zip(
        right, traces, prefix_values(model, traces, temperature=temperature), strict=True
    ):
        enough = value.enough_at(sure)
        if enough is None:
            continue
        number = rollout.generation.request_id
        reply = replace(_cut(model.base, trace, enough), request_id=number)
        known = best.get(rollout.question.id)
        if known is None or reply.spend < known.spend:
            best[rollout.question.id] = reply
    return list(best.values())


def _closed_well(reply: Generation) -> bool:
    reasons = {CloseReason.NATURAL, CloseReason.CONFIDENT}
    return reply.finished and reply.budget.close_reason in reasons


def _as_its_own(base: Base, rollout: Rollout) -> Rollout:
    """Return a rollout of which every token is the model's own choice, its closer too."""
    reply = rollout.generation
    if reply.budget.close_reason is CloseReason.NATURAL:
        return rollout
    thought = [(token, True) for token in reply.think]
    whole = as_trace(base, reply.prompt, thought, reply.answer, None, "").reply
    return replace(rollout, generation=replace(whole, request_id=reply.request_id))


def _cut(base: Base, trace: Trace, enough: int) -> Generation:
    thought = [(token, True) for token in trace.think[:enough]]
    return as_trace(base, trace.prompt, thought, trace.answer, None, "").reply


def _given(reply: Generation) -> GivenTrace:
    return GivenTrace(reply, None, f"request {reply.request_id}")


class OwnTraces(StepwiseTraces):
    """A model's own replies, those of like length together; step and seed say which.

    Args:
        train: Replies to learn from.
        validation: Replies to measure on.
        size: Replies of a batch on each process.
        seed: Of the choice.
        processes: Over which the replies of a step are spread.
    """

    def __init__(
        self,
        train: Sequence[Generation],
        validation: Sequence[Generation],
        *,
        size: int,
        seed: int,
        processes: Processes = ALONE,
    ) -> None:
        self._processes = processes
        self._train = sorted(train, key=lambda reply: len(reply.prompt) + len(reply.steps))
        self._validation, self._size, self._seed = validation, size, seed

    def batch(self, step: int) -> Sequence[GivenTrace]:
        """Return the replies of a step."""
        size = self._size * self._processes.size
        last = max(0, len(self._train) - size)
        first = Random(f"{self._seed}/{step}").randint(0, last)
        mine = self._processes.share(self._train[first : first + size])
        return [_given(reply) for reply in mine]

    def validation(self) -> Sequence[GivenTrace]:
        """Return the replies to measure on."""
        return [_given(reply) for reply in self._validation]
