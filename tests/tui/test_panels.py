"""What the panels say of a run that tells everything, and of one that tells nothing."""

import pytest

from metacog.tui.history import RowHistory
from metacog.tui.state import RunState
from metacog.tui.widgets.grids import grid_lines, shades, spine, stretched
from metacog.tui.widgets.panels import PANELS
from metacog.tui.widgets.puzzles import thought
from tests.tui.conftest import event
from tests.tui.whole import whole_run

NAMED = {
    "global": "loss,entropy,reward,think tokens,plan 4 tok,exec 7 tok,eval 10 tok,lr layer,lr base,"
    "gradient norm,GPU MiB",
    "metacog": "PLAN,direct,verify,BUDGET,predicted,used,layer variance,budget,CONFIDENCE,ece,"
    "spread,ALPHA,min,mean,max,entropy,spine,L5,L0,PLAN AGREEMENT,by layer",
    "feedback": "gate norm,coverage,saturation,HEAT MAP",
    "data": "pad left,● OK,max_len,longest seen",
    "eval": "puzzles right,PUZZLES,THINK tokens,since 400",
    "alerts": "▲,9.1",
    "log": "first batch,saved",
}


@pytest.fixture(scope="module")
def state() -> RunState:
    known = RunState()
    known.take(whole_run())
    return known


@pytest.mark.parametrize("width", [36, 64, 110])
@pytest.mark.parametrize("name", PANELS)
def test_a_panel_says_all_that_section_5_asks_of_it(state: RunState, name: str, width: int) -> None:
    said = PANELS[name](state, width, 40)
    for word in NAMED[name].split(","):
        assert word in str(said)
    assert "--" not in str(said).split()
    if name not in {"alerts", "log", "eval"}:
        assert max(line.cell_length for line in said.split("\n")) <= width


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_of_an_empty_run_says_that_nothing_is_known(name: str) -> None:
    said = str(PANELS[name](RunState(), 60, 40))
    assert "--" in said or "no alert" in said
    assert "0" not in said


@pytest.mark.parametrize("unit", ["tokens", "points"])
def test_speed_is_said_in_what_is_learned_from(unit: str) -> None:
    known = RunState()
    known.take([event(10, "metrics", **{f"perf__{unit}_per_s": 5300.0})])
    assert f"{unit}/s" in str(PANELS["global"](known, 64, 40))


def test_the_spine_shows_each_block_over_time_and_now() -> None:
    course = RowHistory()
    course.add(0, (0.0, 1.0))
    course.add(100, (1.0, None))
    above, below = (str(line) for line in spine(course, 31))
    assert (above[:4], below[:4]) == ("L1  ", "L0  ")
    assert above[4:24] == "█" * 19 + "·", "what is not known any more is shown so at the end"
    assert below[4:24] == " " * 19 + "█"
    assert (above.split()[-1], below.split()[-1]) == ("--", "1")


def test_rows_are_bounded_and_the_newest_stays() -> None:
    course = RowHistory(capacity=8)
    for step in range(100):
        course.add(step, (float(step),))
        assert course.rows[-1] == (step, (float(step),))
    assert len(course.rows) <= 8
    assert [step for step, _ in course.rows] == sorted({step for step, _ in course.rows})


def test_shades_say_what_is_missing_and_keep_order() -> None:
    assert str(shades([0.0, 0.25, 0.5, 0.75, 1.0, None], 0.0, 1.0)) == " ░▒▓█·"
    assert stretched([1.0, 3.0, None, 5.0], 2) == [2.0, 5.0]


def test_a_column_of_a_heat_map_is_the_same_tokens_in_every_row() -> None:
    rows = [[float(token >= 40) for token in range(length)] for length in (500, 50, 7)]
    drawn = [str(line)[4:] for line in grid_lines(rows, 54, 3)]
    assert drawn == [" " * 4 + "█" * 46, " " * 4 + "█", " "]


PRACTICE = {
    f"eval/validation/{source}_{figure}": 0.5
    for source in ("predicted", "uncapped")
    for figure in ("spend", "accuracy")
}


def judged(height: int, **figures: float) -> list[str]:
    state = RunState()
    state.take([event(5, "eval", **figures)])
    said = str(PANELS["eval"](state, 60, height))
    return [line[:15].strip() for line in said.splitlines()]


def test_all_that_is_validated_is_shown_as_far_as_there_is_room() -> None:
    right, spend = ["predicted right", "uncapped right"], ["predicted spend", "uncapped spend"]
    assert judged(20, **PRACTICE) == [*right, *spend, "THINK tokens"]
    assert judged(6, **PRACTICE) == [*right, "predicted spend", "THINK tokens"]
    gate = {"eval/validation/loss_answer": 1.5}
    assert judged(20, **gate) == ["loss answer", "THINK tokens"]
    layer = {"eval/validation/budget_mse": 0.1, **gate, "eval/validation/loss": 2.0}
    puzzles = {"eval/puzzles/accuracy": 1.0}
    assert judged(20, **layer, **puzzles) == [
        "validation/loss",
        "puzzles right",
        "loss answer",
        "budget mse",
        "THINK tokens",
    ]


def test_thinking_keeps_every_character_and_colours_its_spans() -> None:
    words = "a <plan>p</plan> b <eval>open"
    shown = thought(words)
    assert str(shown) == words
    assert len({str(span.style) for span in shown.spans}) == 3
