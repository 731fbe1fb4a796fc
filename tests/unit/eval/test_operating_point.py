"""Policies of thresholds on traces small enough to follow by hand."""

import numpy as np
import pytest

from metacog.eval.operating_point import (
    Thresholds,
    TracePoints,
    candidates,
    choose_operating_point,
    outcome,
)

# Two traces. The first is right from 10 tokens on and has little to win then; the second never is.
USED = [[0.0, 10.0, 20.0, 40.0], [0.0, 8.0, 16.0, np.inf]]
RIGHT = np.zeros((2, 41))
RIGHT[0, :10], RIGHT[0, 10:40], RIGHT[0, 40] = 0.1, 0.9, 1.0
RIGHT[1, 16] = 0.2
RIGHT[0, 30] = 0.7  # inside a line
READY = [[0.1, 0.95, 0.95, 0.99], [0.1, 0.2, 0.3, 0.0]]
GAIN = [[0.9, 0.04, 0.02, 0.0], [0.5, 0.05, 0.02, 0.0]]
NEEDED = [[10.0, 0.0, 0.0, 0.0], [30.0, 20.0, 10.0, 0.0]]
NEVER = Thresholds(100.0, 0.0, needed_scale=100.0, confident=0.0, hopeless=0.0)


@pytest.fixture
def points() -> TracePoints:
    used = np.array(USED)
    valid = np.isfinite(used)
    reread = valid & (used > 0)
    return TracePoints(
        used=used,
        valid=valid,
        reread=reread,
        right=RIGHT,
        needed=np.array(NEEDED) + 1.0,
        ready=np.array(READY),
        gain=np.array(GAIN),
        budget=np.array([30.0, 12.0]),
        factor=np.ones(2),
        given=np.full(2, np.nan),
        floor=np.ones(2),
    )


def test_without_thresholds_traces_run_to_their_natural_end(points) -> None:
    assert points.natural.tolist() == [40.0, 16.0]
    assert outcome(points, NEVER) == pytest.approx(((1.0 + 0.2) / 2, (40 + 16) / 2))


def test_a_confident_rereading_stops_a_trace_where_it_stands(points) -> None:
    assert outcome(points, Thresholds(100.0, 0.0, 100.0, 0.05, 0.0)) == pytest.approx(
        ((0.9 + 0.2) / 2, (10 + 16) / 2)
    )


def test_a_hopeless_rereading_stops_a_trace_too(points) -> None:
    assert outcome(points, Thresholds(100.0, 0.0, 100.0, 0.0, 0.06)) == pytest.approx(
        ((1.0 + 0.0) / 2, (40 + 8) / 2)
    )


def test_the_budget_at_the_prompt_caps_a_trace_between_its_points(points) -> None:
    # 30 and 12 tokens: the first ends inside a line, where less is right than at its ends.
    assert outcome(points, Thresholds(1.0, 0.0, 100.0, 0.0, 0.0)) == pytest.approx(
        ((0.7 + 0.0) / 2, (30 + 12) / 2)
    )


def test_room_is_added_to_the_scaled_budget(points) -> None:
    # 15 + 5 and 6 + 5 tokens.
    assert outcome(points, Thresholds(0.5, 5.0, 100.0, 0.0, 0.0)) == pytest.approx(
        ((0.9 + 0.0) / 2, (20 + 11) / 2)
    )


def test_tokens_still_needed_lower_the_cap_and_never_raise_it(points) -> None:
    # The first trace needs 0 + 1 more at 10: it stops at 11; the second's caps lie behind its end.
    assert outcome(points, Thresholds(100.0, 0.0, 1.0, 0.0, 0.0)) == pytest.approx(
        ((0.9 + 0.2) / 2, (11 + 16) / 2)
    )


def test_the_cheapest_point_within_the_margin_is_chosen(points) -> None:
    strict = choose_operating_point(points, margin=0.06)
    assert strict.accuracy >= strict.reference_accuracy - 0.06
    loose = choose_operating_point(points, margin=0.2)
    assert loose.think_tokens < strict.think_tokens
    assert loose.accuracy >= loose.reference_accuracy - 0.2
    assert loose.uncapped_think_tokens == 28.0


def test_what_may_be_lost_is_held_against_a_reference_where_there_is_one(points) -> None:
    own = choose_operating_point(points, margin=0.0)
    lenient = choose_operating_point(points, margin=0.0, reference=own.accuracy - 0.2)
    assert lenient.reference_accuracy == own.accuracy - 0.2
    assert own.accuracy > lenient.accuracy >= own.accuracy - 0.2
    assert lenient.think_tokens < own.think_tokens


def test_where_every_policy_loses_too_much_the_one_that_loses_least_is_chosen(points) -> None:
    least = choose_operating_point(points, margin=-1.0)
    reached = [outcome(points, thresholds) for thresholds in candidates()]
    best = max(right for right, _ in reached)
    assert least.accuracy == best
    assert least.think_tokens == min(tokens for right, tokens in reached if right == best)
    assert outcome(points, least.thresholds) == (least.accuracy, least.think_tokens)
