from dataclasses import replace

import pytest

from metacog.records import (
    BudgetReport,
    BudgetSource,
    CloseReason,
    Generation,
    Segment,
    Step,
)
from metacog.rewards.reply import is_well_formed, reply_reward


def reply(think: int, answer: int, *, finished: bool = True) -> Generation:
    segments = [Segment.THINK] * think + [Segment.CLOSE] + [Segment.ANSWER] * answer
    steps = tuple(
        Step(0, index, 5, segment, sampled=True, altered=False, logprob=-0.1)
        for index, segment in enumerate(segments)
    )
    report = BudgetReport(None, None, None, think, CloseReason.NATURAL, BudgetSource.UNCAPPED)
    return Generation(0, (1, 2), steps, report, None, None, None, finished)


def reward(of: Generation, *, correct: bool) -> float:
    return reply_reward(of, correct=correct, lambda_tokens=0.5, format_reward=0.1, max_tokens=100)


def test_a_reply_is_paid_for_being_right_short_and_well_formed() -> None:
    assert reward(reply(30, 10), correct=True) == pytest.approx(1 - 0.5 * 0.4 + 0.1)
    assert reward(reply(30, 10), correct=False) == pytest.approx(-0.2 + 0.1)


def test_answer_tokens_cost_what_think_tokens_cost() -> None:
    assert reward(reply(30, 10), correct=True) == reward(reply(10, 30), correct=True)


@pytest.mark.parametrize(
    "broken",
    [
        reply(3, 4, finished=False),
        reply(3, 1),
        replace(reply(3, 4), budget=replace(reply(3, 4).budget, close_reason=None)),
    ],
    ids=["cut off", "an end and no answer", "never closed"],
)
def test_what_did_not_end_well_gets_no_reward_for_its_form(broken: Generation) -> None:
    assert is_well_formed(reply(3, 4))
    assert not is_well_formed(broken)
    assert reward(broken, correct=False) == pytest.approx(-0.5 * broken.spend / 100)
