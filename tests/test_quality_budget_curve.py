"""More budget never gives less thinking, and no budget is ever exceeded."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from metacog.decode.batch_budget import BatchController
from metacog.decode.budget import BudgetController, ControllerSettings
from metacog.decode.engine import Engine, EngineSettings
from metacog.decode.opening import NO_LIMIT, OpeningSettings
from metacog.decode.rereading import RereadSettings
from metacog.errors import BudgetExceeded
from metacog.model.bundle import MetacogModel
from metacog.records import BudgetSource, CloseReason, Generation, Request

BUDGETS = (0, 1, 2, 3, 5, 8, 13, 21, 34)
SETTINGS = EngineSettings(
    rows=16,
    controller=ControllerSettings(answer_reserve=6, debug=True),
    reread=RereadSettings(schedule="none"),
)
SEEDS = range(4)


def replies_of(
    model: MetacogModel,
    prompts: Sequence[tuple[int, ...]],
    budget: int | None,
    settings: EngineSettings = SETTINGS,
) -> list[Generation]:
    """Return one reply for each prompt and seed, in that order."""
    requests = [
        Request(id=index, prompt=prompt, budget=budget, seed=seed, max_new_tokens=60)
        for index, prompt in enumerate(prompts)
        for seed in SEEDS
    ]
    requests = [
        replace(request, id=index, max_answer_tokens=6) for index, request in enumerate(requests)
    ]
    replies = Engine(model, settings).generate(requests)
    return sorted(replies, key=lambda reply: reply.request_id)


def test_explicit_budgets_cap_every_row_and_rise_with_it(
    tiny_model: MetacogModel, tiny_prompts: Sequence[tuple[int, ...]]
) -> None:
    free = [len(reply.think) for reply in replies_of(tiny_model, tiny_prompts, NO_LIMIT)]
    curve = []
    for budget in BUDGETS:
        replies = replies_of(tiny_model, tiny_prompts, budget)
        used = [len(reply.think) for reply in replies]
        assert max(used) <= budget
        assert [reply.budget.used for reply in replies] == used
        assert {reply.budget.enforced for reply in replies} == {budget}
        assert used == [min(budget, natural) for natural in free]
        curve.append(used)
    curve.append(free)
    for lower, higher in pairwise(curve):
        assert all(less <= more for less, more in zip(lower, higher, strict=True))
    means = [sum(used) for used in curve]
    assert means == sorted(set(means)), "somewhere a larger budget bought nothing at all"
    assert min(free) < max(BUDGETS) < max(free), "some rows close by themselves, some are cut"


def test_predicted_budgets_are_clamped_enforced_and_rise_with_the_scale(
    tiny_model: MetacogModel, tiny_prompts: Sequence[tuple[int, ...]]
) -> None:
    assert tiny_model.reader is not None
    low, high = tiny_model.reader.calibration.budget_clip
    curve, caps = [], []
    for factor in (0.0, 0.25, 0.5, 1.0):
        opening = OpeningSettings(plan_scale=dict.fromkeys(tiny_model.reader.plans, factor))
        replies = replies_of(tiny_model, tiny_prompts, None, replace(SETTINGS, opening=opening))
        for reply in replies:
            report = reply.budget
            assert report.source is BudgetSource.PREDICTED
            assert report.enforced == report.predicted
            assert report.enforced is not None
            assert 1 <= report.enforced <= high
            assert report.used == len(reply.think) <= report.enforced
            assert factor < 1.0 or report.enforced >= low
        caps.append([reply.budget.enforced or 0 for reply in replies])
        curve.append([len(reply.think) for reply in replies])
    for rows in (curve, caps):
        for lower, higher in pairwise(rows):
            assert all(less <= more for less, more in zip(lower, higher, strict=True))
    assert set(curve[0]) == {1}, "a factor of zero leaves min_think"
    assert sum(curve[-1]) > sum(curve[0])
    assert len(set(caps[-1])) > 1, "the prediction is the same whatever is asked"


def test_a_row_that_is_cut_says_so(
    tiny_model: MetacogModel, tiny_prompts: Sequence[tuple[int, ...]]
) -> None:
    for reply in replies_of(tiny_model, tiny_prompts, 5):
        cut = reply.budget.close_reason is CloseReason.BUDGET
        assert cut == (len(reply.think) == 5)


def test_debug_fires_the_moment_a_cap_would_be_exceeded(tiny_model: MetacogModel) -> None:
    tags = tiny_model.base.tags
    word = tiny_model.base.encode("3")[0]
    batch = BatchController(1, tags, ControllerSettings(answer_reserve=4, debug=True))
    batch.admit(0, budget=2, max_new_tokens=20, max_answer_tokens=4)
    single = BudgetController(
        tags,
        ControllerSettings(answer_reserve=4, debug=True),
        budget=2,
        max_new_tokens=20,
        max_answer_tokens=4,
    )
    for _ in range(2):
        batch.observe(np.array([word]))
        single.observe(word)
    assert int(batch.decide().forced[0]) == tags.think_close[0] == single.decide().forced
    with pytest.raises(BudgetExceeded, match="after 2 tokens"):
        batch.observe(np.array([word]))
    with pytest.raises(BudgetExceeded):
        single.observe(word)
