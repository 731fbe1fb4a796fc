"""Replays begin at marks, and end in the same as from the start."""

import pytest

from metacog.tui.follow import Follower, state_at
from tests.tui.conftest import WriteRun, event
from tests.tui.whole import whole_run


def test_a_replay_from_a_mark_knows_what_one_from_the_start_knows(write_run: WriteRun) -> None:
    events = [*whole_run(), *(event(400 + s, "metrics", train__loss=1 / s) for s in range(1, 9000))]
    follower = Follower(write_run(events))
    follower.look()
    found = follower.marks.before(5_000)[1]
    assert found.num_events > 500, "it does not begin at the start"
    newest = follower.state.num_events
    for step in (0, 55, 5_000, 9_399):
        near, far = state_at(follower.run, step, follower.marks), state_at(follower.run, step)
        assert near.step == far.step
        assert near.latest == far.latest
        assert near.puzzles == far.puzzles
        assert (
            near.histories["train/loss"].buckets == far.histories["train/loss"].buckets
            if step
            else True
        )
        assert {n: c.rows for n, c in near.courses.items()} == {
            n: c.rows for n, c in far.courses.items()
        }
    assert follower.state.num_events == newest, "a replay leaves what is known alone"


def test_marks_are_bounded(write_run: WriteRun) -> None:
    follower = Follower(write_run())
    for s in range(60_000):
        follower.state.take([event(s, "metrics", train__loss=1.0)])
        if s % 100 == 99:
            follower.marks.note(follower._tail.place, follower.state)
    assert len(follower.marks._found) <= 24
    assert follower.marks.before(59_999)[1].num_events > 50_000
    assert follower.marks.before(59_999)[1].step == pytest.approx(59_999, abs=5_000)
