"""What is decided between the prompt and the first thought: plan, budget, gate, sampler."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from metacog.decode.batch_budget import SEGMENTS
from metacog.decode.modulation import Modulation, Sampler, modulate
from metacog.decode.terms import NO_LIMIT, think_room
from metacog.errors import InputError
from metacog.model.bundle import MetacogModel
from metacog.model.calibration import CalibratedReading
from metacog.records import BudgetSource, Reading, Request


@dataclass(frozen=True)
class OpeningSettings:
    """How a reading becomes a plan and a budget."""

    use_predicted_budget: bool = True
    """Enforce the reading's budget where a request names none; otherwise `max_tokens`."""
    max_tokens: int = NO_LIMIT
    """Enforced where the reading's budget is not; -1 for no limit but the reply's."""
    min_think: int = 1
    """Smallest budget that a prediction leads to, in tokens."""
    plan_scale: Mapping[str, float] = field(default_factory=dict)
    """Factor of the predicted budget by plan; a plan not named keeps 1."""
    inject_plan: bool = False
    """Open THINK with the mark of the plan."""
    plan_marks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Ids of each plan's mark."""
    telemetry: bool = False
    """Keep the experts' own opinions in the reading."""
    modulation: Modulation | None = None
    """How far plan and confidence may move the sampler."""


@dataclass(frozen=True)
class Opening:
    """How one reply starts."""

    sampler: tuple[Sampler, ...]
    """Of each segment, in the order of `SEGMENTS`."""
    budget: int
    """What is enforced: THINK tokens, or -1 for no limit but the reply's."""
    predicted: int | None
    source: BudgetSource
    reading: Reading | None = None
    plan: str | None = None
    gamma: Float[Tensor, " hidden"] | None = None
    saturation: float | None = None
    """Share of gamma's channels at their limit; None without a gate."""
    marks: tuple[int, ...] = ()
    """Forced at the start of THINK."""


class Opener:
    """Reads prompts and decides how their replies start.

    Args:
        model: Whose replies they are.
        settings: How a reading becomes a plan and a budget.
        answer_reserve: Tokens of a reply's limit that the controller keeps behind the closer.
    """

    def __init__(
        self, model: MetacogModel, settings: OpeningSettings, answer_reserve: int = 64
    ) -> None:
        self.model, self.settings, self.answer_reserve = model, settings, answer_reserve

    def open(
        self, states: Float[Tensor, "batch layers hidden"] | None, requests: Sequence[Request]
    ) -> list[Opening]:
        """Return the openings of requests, from the blocks' states at their last prompt token."""
        reader = self.model.reader
        if reader is None or states is None:
            return [self._without_layer(request) for request in requests]
        reading = reader.read(states, telemetry=self.settings.telemetry)
        return self._with_layer(reading, requests)

    def check(self, request: Request) -> None:
        """Refuse a plan that the model does not have.

        Raises:
            InputError: If it names one.
        """
        reader = self.model.reader
        if request.plan is None or (reader is not None and request.plan in reader.plans):
            return
        known = ", ".join(reader.plans) if reader is not None else "none, as it has no layer"
        raise InputError(f"Wanted a plan of this model ({known}), got {request.plan!r}.")

    def budgets(self, reading: CalibratedReading) -> list[int]:
        """Return what is enforced where neither budget nor plan is asked for: THINK tokens, or -1."""
        reader = self.model.reader
        assert reader is not None
        plans = [reader.plans[index] for index in reading.chosen.tolist()]
        return [self._enforced(predicted, 1.0) for predicted in self._predicted(reading, plans)]

    def _predicted(self, reading: CalibratedReading, plans: Sequence[str]) -> list[int]:
        return [
            max(self.settings.min_think, round(tokens * self.settings.plan_scale.get(plan, 1.0)))
            for tokens, plan in zip(reading.budget_tokens.tolist(), plans, strict=True)
        ]

    def _without_layer(self, request: Request) -> Opening:
        budget = NO_LIMIT if request.budget is None else request.budget
        return Opening(_plain_sampler(request), budget, None, _source(budget))

    def _with_layer(self, reading: CalibratedReading, requests: Sequence[Request]) -> list[Opening]:
        reader = self.model.reader
        assert reader is not None
        chosen = reading.chosen.tolist()
        plans = [r.plan or reader.plans[chosen[row]] for row, r in enumerate(requests)]
        predicted = self._predicted(reading, plans)
        budgets = [self._budget(r, p) for r, p in zip(requests, predicted, strict=True)]
        enforced = torch.tensor(list(map(self._thinks_at_most, requests, budgets)))
        records = reader.records(reading, enforced.to(reading.plan.device))
        gammas, saturations = self._gammas(reading)
        return [
            Opening(
                sampler=self._sampler(request, records[row], plans[row]),
                budget=budgets[row],
                predicted=predicted[row],
                source=self._source(budgets[row], request),
                reading=records[row],
                plan=plans[row],
                gamma=None if gammas is None else gammas[row],
                saturation=saturations[row],
                marks=self._marks(plans[row]),
            )
            for row, request in enumerate(requests)
        ]

    def _budget(self, request: Request, predicted: int) -> int:
        if request.budget is not None:
            return request.budget
        return self._enforced(predicted, request.budget_scale)

    def _thinks_at_most(self, request: Request, budget: int) -> float:
        """Return the tokens that confidence is told at: the budget's, or fewer where the reply is short."""
        room = think_room(
            self.model.base.tags,
            max_new_tokens=request.max_new_tokens,
            answer_reserve=self.answer_reserve,
        )
        assert self.model.reader is not None
        longest = self.model.reader.layer.shape.budget_max
        wanted = math.inf if budget == NO_LIMIT else float(budget)
        return min(wanted, float(room) if room < longest else math.inf)

    def _enforced(self, predicted: int, scale: float) -> int:
        if not self.settings.use_predicted_budget:
            return self.settings.max_tokens
        return max(self.settings.min_think, round(predicted * scale))

    def _sampler(self, request: Request, reading: Reading, plan: str) -> tuple[Sampler, ...]:
        modulation = self.settings.modulation
        if modulation is None:
            return _plain_sampler(request)
        return tuple(
            modulate(
                modulation,
                plain,
                confidence=reading.confidence,
                plan=plan,
                segment=segment,
            )
            for segment, plain in zip(SEGMENTS, _plain_sampler(request), strict=True)
        )

    def _source(self, enforced: int, request: Request) -> BudgetSource:
        predicted = request.budget is None and self.settings.use_predicted_budget
        return BudgetSource.PREDICTED if predicted else _source(enforced)

    def _gammas(
        self, reading: CalibratedReading
    ) -> tuple[Float[Tensor, "batch hidden"] | None, list[float | None]]:
        feedback, raw = self.model.gate, reading.raw
        if feedback is None:
            return None, [None] * len(reading.plan)
        gammas = feedback.gamma(raw.g, raw.plan_logits, raw.conf_raw)
        return gammas, feedback.saturation(gammas).tolist()

    def _marks(self, plan: str) -> tuple[int, ...]:
        return self.settings.plan_marks.get(plan, ()) if self.settings.inject_plan else ()


def _plain_sampler(request: Request) -> tuple[Sampler, ...]:
    plain = Sampler(request.temperature, request.top_p, request.repetition_penalty)
    return (plain,) * len(SEGMENTS)


def _source(enforced: int) -> BudgetSource:
    return BudgetSource.UNCAPPED if enforced == NO_LIMIT else BudgetSource.EXPLICIT
