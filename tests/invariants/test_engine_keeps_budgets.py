"""Invariant 4 for the engine: budgets hold, and every reply says truly what was done to it."""

from itertools import pairwise

import pytest

from metacog.decode.rereading import RereadSettings
from metacog.model.bundle import MetacogModel
from metacog.records import (
    BudgetReport,
    BudgetSource,
    CloseReason,
    GateReport,
    Generation,
    Request,
    RevisionKind,
    Segment,
)
from metacog.text.segments import split_ids
from tests.conftest import MakeModel
from tests.invariants.replies import RESERVE, Prompts, answered, ids_of, settings

BUDGETS = (0, 1, 2, 7, -1, None)
MAX_NEW, MAX_ANSWER = 40, 5
READY_BIAS, GAIN = -1.1, 0.8
"""Half of the re-readings find the answer likely right, and about half little to win by going on."""
ROOM = MAX_NEW - 1 - RESERVE
"""THINK tokens that the reply's own limit leaves."""


@pytest.fixture(scope="module")
def model(make_tiny_model: MakeModel) -> MetacogModel:
    """Its re-readings close as confident here, as hopeless there, and else lower the budget."""
    thresholds = {
        "confident_threshold": GAIN,
        "hopeless_threshold": GAIN,
        "ready_bias": READY_BIAS,
        "needed_scale": 0.3,
    }
    return make_tiny_model(calibration=thresholds)


@pytest.fixture(scope="module")
def requests(tiny_prompts: Prompts) -> list[Request]:
    return [
        Request(
            id=index,
            prompt=tiny_prompts[index % len(tiny_prompts)],
            budget=BUDGETS[index % len(BUDGETS)],
            seed=5,
            max_new_tokens=MAX_NEW,
            max_answer_tokens=MAX_ANSWER,
        )
        for index in range(48)
    ]


@pytest.fixture(scope="module", params=["lines", "every", "none"])
def replies(
    request: pytest.FixtureRequest, model: MetacogModel, requests: list[Request]
) -> dict[int, Generation]:
    reread = RereadSettings(schedule=request.param, every=3, revise=True)
    return answered(model, requests, settings(rows=16, reread=reread))


@pytest.fixture(scope="module")
def on_lines(model: MetacogModel, requests: list[Request]) -> dict[int, Generation]:
    return answered(model, requests, settings(rows=16))


def test_thinking_and_answer_stay_in_their_limits(
    model: MetacogModel, requests: list[Request], replies: dict[int, Generation]
) -> None:
    tags = model.base.tags
    for request in requests:
        reply = replies[request.id]
        ids = ids_of(reply)
        parts = split_ids(ids, tags)
        assert ids.count(tags.think_close[0]) == 1
        assert tags.think_open[0] not in ids
        assert not tags.eos & set(parts.think)
        assert reply.think == tuple(parts.think)
        assert reply.answer == tuple(parts.answer)
        cap = reply.budget.enforced
        assert len(parts.think) <= min(ROOM, ROOM if cap is None else cap)
        assert 1 <= len(parts.answer) <= MAX_ANSWER
        assert len(ids) <= MAX_NEW
        assert reply.finished == (ids[-1] in tags.eos)
        assert reply.finished or len(parts.answer) == MAX_ANSWER


def test_reports_agree_with_the_steps(
    requests: list[Request], replies: dict[int, Generation]
) -> None:
    for request in requests:
        reply = replies[request.id]
        report, reading = reply.budget, reply.reading
        assert reading is not None
        assert (report.requested, report.predicted) == (request.budget, reading.budget)
        wanted = reading.budget if request.budget is None else request.budget
        assert report.enforced == (None if wanted == -1 or wanted > ROOM else wanted)
        assert report.source is (
            BudgetSource.PREDICTED
            if request.budget is None
            else BudgetSource.UNCAPPED
            if request.budget == -1
            else BudgetSource.EXPLICIT
        )
        segments = [step.segment for step in reply.steps]
        assert report.used == segments.count(Segment.THINK)
        assert report.close_reason is reason_of(reply)


def reason_of(reply: Generation) -> CloseReason:
    """Work out from tokens and revisions why THINK ended."""
    closer = reply.steps[reply.budget.used]
    assert closer.segment is Segment.CLOSE
    if closer.sampled:
        return CloseReason.NATURAL
    if reply.budget.revisions:
        last = reply.budget.revisions[-1]
        assert last.budget_after == reply.budget.used
        return {
            RevisionKind.LOWERED: CloseReason.BUDGET,
            RevisionKind.CONFIDENT: CloseReason.CONFIDENT,
            RevisionKind.HOPELESS: CloseReason.HOPELESS,
        }[last.kind]
    if reply.budget.enforced is None:
        assert reply.budget.used == ROOM
        return CloseReason.MAX_TOKENS
    assert reply.budget.used == reply.budget.enforced
    return CloseReason.BUDGET if reply.budget.enforced else CloseReason.DISABLED


def test_revisions_only_lower(replies: dict[int, Generation]) -> None:
    for reply in replies.values():
        report, by_step = reply.budget, {s.index: s.rereading for s in reply.steps}
        chain = [report.enforced, *(revision.budget_after for revision in report.revisions)]
        for (before, after), revision in zip(pairwise(chain), report.revisions, strict=True):
            assert (revision.budget_before, revision.budget_after) == (before, after)
            assert after < (ROOM if before is None else before)
            assert revision.rereading.used <= after
            assert by_step[revision.rereading.used - 1] == revision.rereading
        assert report.used <= min([ROOM, *(limit for limit in chain if limit is not None)])


def test_every_way_to_close_was_seen(
    model: MetacogModel, requests: list[Request], on_lines: dict[int, Generation]
) -> None:
    unread = answered(model, requests, settings(rows=16, reread=RereadSettings(schedule="none")))
    every = [*unread.values(), *on_lines.values()]
    reasons = {reply.budget.close_reason for reply in every}
    assert reasons == set(CloseReason)
    kinds = {r.kind for reply in on_lines.values() for r in reply.budget.revisions}
    assert kinds == set(RevisionKind)


def test_rereadings_stand_at_line_ends(
    model: MetacogModel, on_lines: dict[int, Generation]
) -> None:
    ends = model.base.tags.line_ends
    for reply in on_lines.values():
        for step in reply.steps:
            read = step.segment is Segment.THINK and step.token in ends
            assert (step.rereading is not None) == read
            assert step.rereading is None or step.rereading.used == step.index + 1


def test_without_thinking_there_is_no_coverage(replies: dict[int, Generation]) -> None:
    silent = [reply for reply in replies.values() if not reply.think]
    assert silent
    assert all(reply.gate == GateReport(None, None, None) for reply in silent)
    thinking = [reply.gate for reply in replies.values() if reply.think]
    assert all(report is not None and report.coverage is not None for report in thinking)


def test_budget_zero_closes_at_once(
    requests: list[Request], replies: dict[int, Generation]
) -> None:
    for request in requests:
        if request.budget == 0:
            first, report = replies[request.id].steps[0], replies[request.id].budget
            assert (first.segment, first.sampled) == (Segment.CLOSE, False)
            assert (report.used, report.close_reason) == (0, CloseReason.DISABLED)


def test_a_bare_base_predicts_and_caps_nothing(
    tiny_base_model: MetacogModel, tiny_prompts: Prompts
) -> None:
    request = Request(0, tiny_prompts[0], max_new_tokens=MAX_NEW, max_answer_tokens=MAX_ANSWER)
    reply = answered(tiny_base_model, [request], settings())[0]
    assert (reply.reading, reply.plan, reply.gate) == (None, None, None)
    used, reason = reply.budget.used, reply.budget.close_reason
    assert reply.budget == BudgetReport(None, None, None, used, reason, BudgetSource.UNCAPPED)
