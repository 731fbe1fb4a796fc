"""The rule of one reply, step by step."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as profile

from metacog.decode.budget import BudgetController, ControllerSettings, Landing
from metacog.decode.terms import segments_of
from metacog.errors import BudgetExceeded, InputError
from metacog.records import BudgetSource, CloseReason, Rereading, RevisionKind, Segment
from tests.unit.decode.streams import (
    DOUBLE,
    SINGLE,
    TAGS,
    TRIPLE,
    Controls,
    Terms,
    controller_of,
    controls_of,
    play,
    terms_of,
)

DEBUG = ControllerSettings(min_think=1, answer_reserve=4, debug=True)


def terms(*stream: int, budget: int = -1, opening: tuple[int, ...] = ()) -> Terms:
    """A reply whose sampler offers a stream, then 7 for ever."""
    return Terms(budget, 30, 9, opening, [*stream, *[7] * 60], {})


def played(given: Terms, tags=SINGLE, settings=DEBUG) -> tuple[BudgetController, list[int]]:
    controller = controller_of(given, tags, settings)
    return controller, [step.token for step in play(controller, given)]


def reason(controller: BudgetController) -> CloseReason | None:
    report = controller.report(requested=None, predicted=None, source=BudgetSource.UNCAPPED)
    return report.close_reason


def test_the_model_closes_by_itself() -> None:
    controller, tokens = played(terms(7, 8, 2, 5, 0))
    assert tokens == [7, 8, 2, 5, 0]
    assert (controller.used, reason(controller)) == (2, CloseReason.NATURAL)
    assert controller.finished


def test_the_closer_is_forced_when_the_budget_is_spent() -> None:
    controller, tokens = played(terms(budget=3))
    assert tokens[:5] == [7, 7, 7, 2, 7]
    assert (controller.used, reason(controller)) == (3, CloseReason.BUDGET)
    assert not controller.finished
    assert len(tokens) == 3 + 1 + 9


def test_a_budget_of_zero_closes_at_once() -> None:
    controller, tokens = played(terms(5, 8, 0, budget=0))
    assert tokens == [2, 8, 0]
    assert (controller.used, reason(controller)) == (0, CloseReason.DISABLED)


def test_the_reply_limit_keeps_the_reserve_free() -> None:
    controller, tokens = played(terms(budget=100))
    assert (controller.used, reason(controller)) == (30 - 1 - 4, CloseReason.MAX_TOKENS)
    assert len(tokens) == 30
    report = controller.report(requested=100, predicted=None, source=BudgetSource.EXPLICIT)
    assert (report.requested, report.enforced, report.used) == (100, None, 25)


def test_an_end_inside_think_becomes_the_closer() -> None:
    controller, tokens = played(terms(7, 9, 5, 0))
    assert tokens == [7, 2, 5, 0]
    assert reason(controller) is CloseReason.NATURAL


def test_an_end_inside_think_completes_a_closer_under_way() -> None:
    assert played(terms(7, 1, 0, 9, 5, 0), TRIPLE)[1][:4] == [7, 1, 3, 4]
    controller, tokens = played(terms(7, 0, 9, 5, 0), TRIPLE)
    assert tokens[:4] == [7, 1, 3, 4]
    assert controller.used == 1


def test_min_think_holds_the_closer_and_the_end_back() -> None:
    settings = replace(DEBUG, min_think=3)
    controller = controller_of(terms(), SINGLE, settings)
    held = []
    for _ in range(4):
        held.append(controller.decide().suppressed)
        controller.observe(7)
    assert held == [{1, 2, 0, 9}] * 3 + [{1}]


def test_min_think_holds_a_long_closer_back_by_where_it_began() -> None:
    controller = controller_of(terms(), TRIPLE, replace(DEBUG, min_think=2))
    for token in (7, 1, 3):
        controller.observe(token)
    assert controller.decide().suppressed == {4}, "one thought before the closer is too few"
    for token in (1, 3):
        controller.observe(token)
    assert controller.decide().suppressed == set()


def test_min_think_never_goes_beyond_the_budget() -> None:
    controller, _ = played(terms(budget=2), settings=replace(DEBUG, min_think=3))
    assert (controller.used, reason(controller)) == (2, CloseReason.BUDGET)


def test_tags_are_suppressed_only_where_they_would_be_complete() -> None:
    controller = controller_of(terms(), TRIPLE, DEBUG)
    seen = []
    for token in (7, 1, 5, 1, 3):
        controller.observe(token)
        seen.append(set(controller.decide().suppressed))
    assert seen == [set(), set(), {4}, set(), set()]
    for token in (4, 1, 3):
        controller.observe(token)
    assert (controller.segment, controller.decide().suppressed) == (Segment.ANSWER, {4})


def test_only_the_rest_of_a_closer_is_forced_at_the_limit() -> None:
    controller, tokens = played(terms(7, 7, 1, budget=3), TRIPLE)
    assert tokens[:5] == [7, 7, 1, 3, 4]
    assert (controller.used, reason(controller)) == (2, CloseReason.BUDGET)
    controller, tokens = played(terms(1, budget=1), TRIPLE)
    assert tokens[:4] == [1, 1, 3, 4], "the rest alone would have left no thought at all"
    assert controller.used == 1


def test_a_broken_off_closer_is_thinking() -> None:
    controller, tokens = played(terms(7, 1, 3, 1, 3, 4, 0), TRIPLE)
    assert tokens == [7, 1, 3, 1, 3, 4, 0]
    assert controller.used == 3
    assert segments_of(7, 3, 3) == [Segment.THINK] * 3 + [Segment.CLOSE] * 3 + [Segment.ANSWER]


def test_an_opening_counts_and_is_left_out_where_it_does_not_fit() -> None:
    assert played(terms(5, 5, 5, budget=3, opening=(8, 6)))[1][:4] == [8, 6, 5, 2]
    assert played(terms(5, budget=2, opening=(8, 6)))[1][:3] == [8, 6, 2]
    assert played(terms(5, 7, budget=1, opening=(8, 6)))[1][:2] == [5, 2]


def test_landing_raises_the_closer_at_line_ends_of_the_window() -> None:
    settings = replace(DEBUG, landing=Landing(window=4, bias=8.0))
    given = terms(6, 7, 6, 6, 7, 6, budget=6)
    steps = play(controller_of(given, SINGLE, settings), given)
    assert [dict(step.decision.biases) for step in steps[:7]] == [
        {},
        {},  # a line end, before the window
        {},  # in the window, no line end
        {2: 4.0},
        {2: 6.0},
        {},
        {},  # forced
    ]
    assert steps[6].decision.forced == 2


def test_wrap_up_text_ends_at_the_cap() -> None:
    settings = replace(DEBUG, landing=Landing(window=4, bias=0.0, text_ids=(8, 8, 6)))
    controller, tokens = played(terms(budget=5), settings=settings)
    assert tokens[:6] == [7, 7, 8, 8, 6, 2]
    assert (controller.used, reason(controller)) == (5, CloseReason.BUDGET)
    assert played(terms(budget=3), settings=settings)[1][:4] == [7, 7, 7, 2]
    assert played(terms(1, budget=4), TRIPLE, settings)[1][:4] == [1, 7, 7, 7]


def test_a_wrap_up_text_never_begins_the_closer() -> None:
    settings = replace(DEBUG, landing=Landing(window=4, bias=0.0, text_ids=(8, 2)))
    controller, tokens = played(terms(budget=5), DOUBLE, settings)
    assert tokens[:7] == [7, 7, 7, 8, 2, 2, 4]
    assert (controller.used, reason(controller)) == (5, CloseReason.BUDGET)


def test_a_revision_lowers_the_budget_and_never_raises_it() -> None:
    controller = controller_of(terms(budget=20), SINGLE, DEBUG)
    for _ in range(4):
        controller.observe(7)
    assert controller.revise(
        RevisionKind.LOWERED, Rereading(used=4, needed=2.2, ready=0.3, gain=0.5, allowed=2.2)
    )
    assert not controller.revise(
        RevisionKind.LOWERED, Rereading(used=4, needed=9.0, ready=0.3, gain=0.5, allowed=9.0)
    )
    while controller.segment is Segment.THINK:
        controller.observe(7)
    report = controller.report(requested=20, predicted=None, source=BudgetSource.EXPLICIT)
    assert (report.enforced, report.used, report.close_reason) == (20, 7, CloseReason.BUDGET)
    (revision,) = report.revisions
    assert (revision.budget_before, revision.budget_after) == (20, 7)


@pytest.mark.parametrize("kind", [RevisionKind.CONFIDENT, RevisionKind.HOPELESS])
def test_a_revision_closes(kind: RevisionKind) -> None:
    controller = controller_of(terms(), SINGLE, DEBUG)
    controller.observe(7)
    assert controller.revise(
        kind, Rereading(used=1, needed=40.0, ready=0.9, gain=0.5, allowed=40.0)
    )
    assert controller.decide().forced == 2
    assert reason(controller) == CloseReason(kind.value)
    assert controller.revisions[0].budget_before is None
    assert not controller.revise(
        kind, Rereading(used=1, needed=40.0, ready=0.9, gain=0.5, allowed=40.0)
    )


def test_a_revision_keeps_min_think() -> None:
    controller = controller_of(terms(), SINGLE, replace(DEBUG, min_think=3))
    controller.observe(7)
    assert controller.revise(
        RevisionKind.CONFIDENT, Rereading(used=1, needed=0.0, ready=0.9, gain=0.5, allowed=0.0)
    )
    assert controller.decide().forced is None
    controller.observe(7)
    controller.observe(7)
    assert (controller.decide().forced, reason(controller)) == (2, CloseReason.CONFIDENT)


def test_debug_fires_the_moment_the_cap_would_be_exceeded() -> None:
    controller = controller_of(terms(budget=2), SINGLE, DEBUG)
    controller.observe(7)
    controller.observe(7)
    with pytest.raises(BudgetExceeded, match="closes THINK after 2 tokens"):
        controller.observe(7)


def test_debug_fires_when_a_decision_is_broken() -> None:
    controller = controller_of(terms(budget=2, opening=(8,)), SINGLE, DEBUG)
    with pytest.raises(AssertionError, match="8 was forced"):
        controller.observe(7)
    controller.observe(8)
    with pytest.raises(AssertionError, match="suppressed token 1"):
        controller.observe(1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"budget": -2}, "got -2"),
        ({"max_new_tokens": 1}, "at least 2"),
        ({"max_answer_tokens": 0}, "at least 1"),
        ({"opening": (7, 2)}, "without the tags of THINK"),
        ({"opening": (0,)}, "without an end of reply"),
    ],
)
def test_what_cannot_be_kept_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        controller_of(replace(terms(), **changed), SINGLE, DEBUG)


def test_an_opening_may_not_begin_the_closer() -> None:
    """The model could complete it, and nobody would know who closed THINK."""
    with pytest.raises(InputError, match="does not end as the closer of THINK begins"):
        controller_of(terms(budget=5, opening=(8, 2)), DOUBLE, DEBUG)
    controller_of(terms(budget=5, opening=(2, 8)), DOUBLE, DEBUG)


def test_a_wrap_up_text_may_not_close() -> None:
    settings = ControllerSettings(landing=Landing(4, 1.0, (8, 2)))
    with pytest.raises(InputError, match="wrap-up text"):
        controller_of(terms(), SINGLE, settings)
    controller_of(terms(), DOUBLE, settings)


@profile(deadline=None)
@given(terms_of, controls_of)
def test_more_budget_never_gives_less_thinking(given: Terms, controls: Controls) -> None:
    settings = replace(controls.settings(), landing=None)
    for tags in TAGS:
        used = []
        for budget in (0, 1, 2, 3, 5, 7, 12, 100, -1):
            asked = replace(given, budget=budget, revisions={})
            used.append(played(asked, tags, settings)[0].used)
        assert used == sorted(used)
