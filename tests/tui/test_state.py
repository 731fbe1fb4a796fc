"""What is known of a run from its events."""

import tracemalloc

import pytest

from metacog.telemetry.events import Event
from metacog.telemetry.rewind import rewind
from metacog.telemetry.rundir import RunDir
from metacog.tui.follow import Follower, Pulse, state_at
from metacog.tui.history import History
from metacog.tui.state import MOST_NAMES, RunState
from metacog.tui.widgets.panels import feedback_panel
from tests.tui.conftest import WriteRun, event, lines, puzzle


def test_a_history_is_bounded_and_keeps_extremes_order_and_mean() -> None:
    history = History(capacity=64)
    values = [((i * 37) % 101) / 7 for i in range(10_000)]
    for step, value in enumerate(values):
        history.add(step, value)
    buckets = history.buckets
    assert len(buckets) <= 64
    assert min(b.low for b in buckets) == min(values)
    assert max(b.high for b in buckets) == max(values)
    assert sum(b.count for b in buckets) == len(values)
    assert sum(b.total for b in buckets) == pytest.approx(sum(values))
    assert [b.step for b in buckets] == sorted(b.step for b in buckets)


def test_columns_are_means_of_what_came_in_order() -> None:
    history = History()
    for step in range(8):
        history.add(step, float(step))
    assert history.columns(4) == [0.5, 2.5, 4.5, 6.5]
    assert history.columns(20) == [float(step) for step in range(8)]


def test_a_number_that_was_not_finite_is_known_and_none() -> None:
    state = RunState()
    state.take([event(1, "metrics", train__loss=2.0), event(2, "metrics", train__loss=None)])
    assert state.latest == {"train/loss": None}
    assert len(state.histories["train/loss"].buckets) == 1


def test_the_verdict_s_turns_are_remembered() -> None:
    state = RunState()
    state.take(puzzle(s, correct=c) for s, c in [(5, False), (10, False), (15, True), (20, False)])
    (known,) = state.puzzles.values()
    assert list(known.flips) == [(5, False), (15, True), (20, False)]
    assert known.step == 20


def test_a_run_that_goes_on_is_no_longer_stopped() -> None:
    state = RunState()
    state.take([event(3, "status", message="stopped")])
    assert state.end == "stopped"
    state.take([event(3, "config", run={"steps": 9})])
    assert (state.end, state.steps) == (None, 9)


def test_a_hundred_thousand_events_take_bounded_memory() -> None:
    state = RunState()
    # Measured from a full state on, so that growth alone counts and tracing costs little.
    for i in range(45_000):
        state.take([event(i, "metrics", train__loss=1.0 / (i + 1), **{f"m{i % 900}": float(i)})])
        state.take([event(i, "log", message=f"line {i}")])
    tracemalloc.start()
    for i in range(45_000, 50_000):
        state.take([event(i, "metrics", train__loss=1.0 / (i + 1), **{f"m{i % 900}": float(i)})])
        state.take([event(i, "log", message=f"line {i}")])
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert state.num_events == 100_000
    assert len(state.latest) == MOST_NAMES
    assert state.unnamed > 0
    assert len(state.log) == 500
    assert used < 5e6


def test_a_megabyte_of_text_is_cut_and_says_so() -> None:
    state = RunState()
    state.take([event(1, "log", message="x" * 1_000_000), puzzle(1, thinking="y" * 1_000_000)])
    assert state.log[0].text.endswith("characters more)")
    assert len(str(next(iter(state.puzzles.values())).data["thinking"])) < 21_000


def test_a_torn_line_is_taken_once_it_is_whole(write_run: WriteRun) -> None:
    run = write_run([event(1, "metrics", train__loss=2.0)])
    follower = Follower(run)
    line = lines([event(2, "metrics", train__loss=1.0)])
    with run.events.open("a", encoding="utf-8") as file:
        file.write(line[:30])
        file.flush()
        follower.look()
        assert follower.state.step == 1
        file.write(line[30:])
    follower.look()
    assert follower.state.step == 2
    assert follower.trouble is None


def test_lines_longer_than_a_look_are_read(write_run: WriteRun) -> None:
    run = write_run([event(1, "log", message="x" * 3_000_000), event(2, "log", message="after")])
    follower = Follower(run)
    follower.look()
    assert follower.state.step == 2


def test_a_damaged_line_is_told_and_what_came_before_stays(write_run: WriteRun) -> None:
    run = write_run([event(1, "metrics", train__loss=2.0)])
    follower = Follower(run)
    follower.look()
    with run.events.open("a", encoding="utf-8") as file:
        file.write("no event\n")
    follower.look()
    assert follower.trouble is not None
    assert "line 2" in follower.trouble
    assert follower.state.step == 1


def test_a_run_that_was_killed_and_goes_on_is_followed_from_its_start(write_run: WriteRun) -> None:
    told = [event(s, "metrics", train__loss=float(s)) for s in range(10, 121, 10)]
    run = write_run([event(0, "config", run={"steps": 200}), *told])
    follower = Follower(run)
    follower.look()
    with run.events.open("a", encoding="utf-8") as file:
        file.write("no event\n")
    follower.look()
    assert (follower.state.step, bool(follower.trouble)) == (120, True)
    assert rewind(run.events, 100, kept_in=run.logs) == 3
    with run.events.open("a", encoding="utf-8") as file:
        file.write(lines([event(100, "config", run={"steps": 300}, filler="x" * 10_000)]))
    follower.look()
    state = follower.state
    assert (state.step, state.steps, state.latest["train/loss"]) == (100, 300, 100.0)
    assert follower.trouble is None
    assert state_at(run, 50, follower.marks).latest["train/loss"] == 50.0
    with run.events.open("a", encoding="utf-8") as file:
        file.write(lines([event(110, "metrics", train__loss=1.0)]))
    follower.look()
    assert (follower.state.step, follower.trouble) == (110, None)
    buckets = follower.state.histories["train/loss"].buckets
    assert [bucket.step for bucket in buckets] == list(range(10, 111, 10)), "each step once"


@pytest.mark.parametrize(
    ("last", "pulse"), [("done", Pulse.DONE), ("stopped", Pulse.STOPPED), (None, Pulse.GONE)]
)
def test_without_a_process_the_last_word_counts(
    write_run: WriteRun, last: str | None, pulse: Pulse
) -> None:
    events = [event(1, "metrics", train__loss=1.0)]
    events += [event(2, "status", message=last)] if last else []
    follower = Follower(write_run(events))
    assert follower.pulse() is Pulse.WAITING
    follower.look()
    assert follower.pulse() is pulse


def test_the_past_is_what_was_known_then(write_run: WriteRun, some_events: list[Event]) -> None:
    run: RunDir = write_run(some_events)
    state = state_at(run, 50)
    assert state.latest["train/loss"] == pytest.approx(4.5)
    assert not next(iter(state.puzzles.values())).data["correct"]
    assert "eval/puzzles/accuracy" not in state.latest


def test_the_newest_grid_of_each_name_is_known() -> None:
    state = RunState()
    grids = {"gate": [[0.0, None], [1.0]], "alpha": [[0.5]]}
    state.take(event(3, "heatmap", name=name, rows=["a"], values=v) for name, v in grids.items())
    assert state.heatmaps == {name: (3, values) for name, values in grids.items()}
    assert state.courses["gate"].rows == [(3, (0.5, None))]
    assert "step 3" in str(feedback_panel(state, 40, 10))
