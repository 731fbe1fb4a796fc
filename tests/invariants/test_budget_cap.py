"""Invariant 4 for the rule: THINK within the budget, one closer, a reserve for the answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metacog.decode.budget import ControllerSettings
from metacog.decode.terms import segments_of
from metacog.records import BudgetSource, CloseReason, Segment
from metacog.text.resolve import ResolvedTags
from metacog.text.segments import split_ids
from tests.unit.decode.streams import (
    BUDGETS,
    SINGLE,
    TAGS,
    TRIPLE,
    Controls,
    Emitted,
    Terms,
    controller_of,
    controls_of,
    play,
    terms_of,
)


def occurrences(ids: list[int], mark: tuple[int, ...]) -> int:
    return sum(tuple(ids[at : at + len(mark)]) == mark for at in range(len(ids)))


def check(terms: Terms, tags: ResolvedTags, controls: ControllerSettings) -> list[Emitted]:
    """Play a reply and look at its ids alone."""
    controller = controller_of(terms, tags, controls)
    steps = play(controller, terms)
    ids = [step.token for step in steps]
    parts = split_ids(ids, tags)
    assert occurrences(ids, tags.think_close) == 1
    assert occurrences(ids, tags.think_open) == 0
    assert terms.budget < 0 or len(parts.think) <= terms.budget
    assert parts.answer
    assert len(ids) <= terms.max_new_tokens
    assert len(parts.answer) <= terms.max_answer_tokens
    room = terms.max_new_tokens - len(tags.think_close) - controls.answer_reserve
    assert len(parts.think) <= max(0, room)
    assert not tags.eos & set(parts.think)
    report = controller.report(requested=None, predicted=None, source=BudgetSource.UNCAPPED)
    assert report.used == len(parts.think)
    assert report.close_reason is not None
    final = segments_of(len(ids), report.used, len(tags.think_close))
    assert final.count(Segment.ANSWER) == len(parts.answer)
    changed = [s for s, end in zip(steps, final, strict=True) if s.segment is not end]
    assert len(changed) < len(tags.think_close), "only a closer's first ids may be taken for THINK"
    return steps


@settings(max_examples=150, deadline=None)
@given(terms_of, st.sampled_from(TAGS), controls_of)
def test_any_sampler_keeps_the_cap(terms: Terms, tags: ResolvedTags, controls: Controls) -> None:
    check(terms, tags, controls.settings())


SAMPLERS = {
    "closes by itself": [7, 7, 2, 5, 0],
    "re-opens inside THINK": [7, 1, 7, 1, 2, 5, 0],
    "re-opens in the answer": [7, 2, 1, 7, 2, 1, 0],
    "closes twice": [7, 2, 5, 2, 5, 2, 0],
    "never closes": [],
    "ends inside THINK": [7, 0, 5, 0],
    "ends at once": [0, 0, 0],
    "writes the long tag in parts": [7, 1, 3, 7, 1, 5, 4, 1, 3, 4, 5, 1, 3, 4, 1, 5, 4, 0],
}


@pytest.mark.parametrize("tags", [SINGLE, TRIPLE], ids=["one id", "three ids"])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("budget", BUDGETS)
def test_the_table_of_budgets_and_samplers(budget: int, sampler: str, tags: ResolvedTags) -> None:
    stream = [*SAMPLERS[sampler], *[7] * 60]
    controls = ControllerSettings(answer_reserve=5, debug=True)
    steps = check(Terms(budget, 30, 9, (), stream, {}), tags, controls)
    if budget == 0:
        assert [step.token for step in steps][: len(tags.think_close)] == list(tags.think_close)


def test_without_a_closer_the_budget_is_used_up() -> None:
    for budget in (1, 2, 7):
        terms = Terms(budget, 30, 9, (), [7] * 60, {})
        controller = controller_of(terms, SINGLE, ControllerSettings(answer_reserve=5))
        play(controller, terms)
        report = controller.report(requested=budget, predicted=None, source=BudgetSource.EXPLICIT)
        assert (report.used, report.close_reason) == (budget, CloseReason.BUDGET)


@settings(deadline=None)
@given(terms_of, st.sampled_from(TAGS), controls_of)
def test_every_position_says_what_was_done_to_it(
    terms: Terms, tags: ResolvedTags, controls: Controls
) -> None:
    for step, offered in zip(check(terms, tags, controls.settings()), terms.stream, strict=False):
        untouched = step.decision.forced is None and not step.altered
        if untouched and offered not in step.decision.suppressed:
            assert step.token == offered
