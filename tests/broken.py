"""Objectives and a keeper that each break one quality gate, so that tests see the gate close."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import torch

from metacog.losses.combine import LossName
from metacog.losses.report import Tally
from metacog.model.gate import FeedbackGate, gate, gate_in
from metacog.model.learner import Learner
from metacog.train.checkpoint import Keeper
from metacog.train.guards import BUDGET_ERROR
from metacog.train.imitate import Imitation, ImitationBatch, ImitationPart
from metacog.train.loop import Counts, StepResult

LAZY_AT = 6
"""The step whose checkpoint `Lazy` leaves out."""


class Silent(Imitation):
    """Leaves figures out of what a step tells."""

    left_out: frozenset[str] = frozenset()

    @contextmanager
    def step(
        self, part: ImitationPart, counts: Counts | None = None, learner: Learner | None = None
    ) -> Iterator[StepResult]:
        with super().step(part, counts, learner) as whole:
            reports = dict(whole.reports)
            if BUDGET_ERROR in self.left_out:
                reports[LossName.BUDGET] = replace(reports[LossName.BUDGET], metrics={})
            tallies = {n: t for n, t in whole.tallies.items() if n not in self.left_out}
            yield replace(whole, reports=reports, tallies=tallies)


class Ungated(Imitation):
    """Forgets to put the gate into place."""

    @contextmanager
    def step(
        self, part: ImitationPart, counts: Counts | None = None, _learner: Learner | None = None
    ) -> Iterator[StepResult]:
        whole = self.model
        self.model = replace(whole, gate=None)
        with super().step(part, counts) as result:
            yield result
        self.model = whole


class Misplaced(Ungated):
    """Puts the gate into another block."""

    @contextmanager
    def step(
        self, part: ImitationPart, counts: Counts | None = None, learner: Learner | None = None
    ) -> Iterator[StepResult]:
        feedback = self.model.gate
        assert feedback is not None
        with (
            gate(self.model.base.blocks[0], feedback),
            super().step(part, counts, learner) as result,
        ):
            yield result


class Another(Ungated):
    """Puts a copy of the gate into the right block."""

    @contextmanager
    def step(
        self, part: ImitationPart, counts: Counts | None = None, learner: Learner | None = None
    ) -> Iterator[StepResult]:
        assert self.model.gate is not None
        copy = FeedbackGate(self.model.gate.shape)
        with gate_in(self.model.base, copy), super().step(part, counts, learner) as result:
            yield result


class Forgetful(Imitation):
    """Leaves the hook in the base."""

    left: AbstractContextManager[Any] | None = None

    @contextmanager
    def step(
        self, part: ImitationPart, counts: Counts | None = None, learner: Learner | None = None
    ) -> Iterator[StepResult]:
        with super().step(part, counts, learner) as result:
            yield result
        assert self.model.gate is not None
        self.left = gate_in(self.model.base, self.model.gate)
        self.left.__enter__()


class Shrinking(Imitation):
    """Lowers `max_len` after two steps."""

    def batches(self, start: int) -> Iterator[ImitationBatch]:
        for number, batch in enumerate(super().batches(start)):
            if number == 2:
                self.traces._source._probe.max_len -= 1  # type: ignore[attr-defined]
            yield batch


class Lazy(Keeper):
    """Leaves one checkpoint out."""

    def checkpoint(self, step: int) -> None:
        if step != LAZY_AT:
            super().checkpoint(step)


class Undefined(Imitation):
    """Tells a weight that is no number."""

    @contextmanager
    def step(
        self, part: ImitationPart, counts: Counts | None = None, learner: Learner | None = None
    ) -> Iterator[StepResult]:
        with super().step(part, counts, learner) as whole:
            broken = Tally(torch.tensor(torch.nan), torch.tensor(1.0))
            yield replace(whole, tallies={**whole.tallies, "metacog/alpha/entropy": broken})
