"""Schedules of re-reading on traces small enough to follow by hand."""

import numpy as np
import pytest

from metacog.eval.operating_point import TracePoints
from metacog.eval.schedules import apart, by_need, compare_schedules, every_line, every_nth_line

ENDS = np.array([0.0, 10.0, 16.0, 30.0, 34.0, 50.0])


@pytest.fixture
def points() -> TracePoints:
    """One trace that is right from 16 tokens on, with nothing to gain from there; read at 5 line ends."""
    right = np.where(np.arange(51) >= 16, 1.0, 0.0)[None]
    return TracePoints(
        used=ENDS[None],
        valid=np.ones((1, 6), dtype=bool),
        reread=np.array([[False, True, True, True, True, True]]),
        right=right,
        needed=np.array([[9.0, 16.0, 2.0, 3.0, 1.0, 0.0]]),
        ready=np.array([[0.1, 0.2, 0.9, 0.9, 0.9, 0.9]]),
        gain=np.array([[0.9, 0.9, 0.001, 0.001, 0.001, 0.001]]),
        budget=np.array([20.0]),
        factor=np.ones(1),
        given=np.full(1, np.nan),
        floor=np.ones(1),
    )


def read_at(mask) -> list[float]:
    return ENDS[mask[0]].tolist()


def test_schedules_by_hand(points: TracePoints) -> None:
    assert read_at(every_line(points)) == [10, 16, 30, 34, 50]
    assert read_at(every_nth_line(2)(points)) == [16, 34]
    # 15 after the start: 16; 15 after that: 34, since 30 is too early; then 50.
    assert read_at(apart(15)(points)) == [16, 34, 50]
    # Half of 20 at first: 10, where 16 more are expected: not before 18, so 30; there 3 more: 34; 50.
    assert read_at(by_need(0.5)(points)) == [10, 30, 34, 50]
    assert read_at(by_need(1.0)(points)) == [30, 34, 50]


def test_what_is_not_a_line_end_is_never_read(points: TracePoints) -> None:
    gone = TracePoints(
        **{**vars(points), "valid": np.array([[True, True, False, True, True, True]])}
    )
    assert read_at(every_line(gone)) == [10, 30, 34, 50]
    assert read_at(apart(15)(gone)) == [30, 50]


def test_fewer_readings_close_later(points: TracePoints) -> None:
    many = TracePoints(
        **{name: np.repeat(value, 8, axis=0) for name, value in vars(points).items()}
    )
    schedules = {"all": every_line, "late": by_need(1.0)}
    every, late = compare_schedules(many, margin=0.0, schedules=schedules, halvings=2)
    assert (every.accuracy, late.accuracy) == (1.0, 1.0)
    # Budgets alone would close at 20 (20 * 1.0 + 0): the re-reading at 16 is earlier, the one at 30 is not.
    assert (every.think_tokens, every.rereadings) == (16.0, 2.0)
    assert (late.think_tokens, late.rereadings) == (20.0, 0.0)
