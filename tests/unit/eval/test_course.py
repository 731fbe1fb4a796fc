"""The course of a run in pictures, and the page of `metacog report`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metacog.cli.main import app
from metacog.eval.course import course_of, wrong_of
from metacog.telemetry.events import Event, EventKind, encode


def event(step: int, kind: EventKind, **data: object) -> Event:
    return Event(
        time=0.0,
        run="r",
        step=step,
        kind=kind,
        data={k.replace("__", "/"): v for k, v in data.items()},
    )


def reply(step: int, *, correct: bool, question: str, thought: int) -> Event:
    return event(
        step,
        EventKind.SAMPLE,
        question=question,
        wanted="7",
        answer="<b>8</b>",
        correct=correct,
        think_tokens=thought,
        budget=None,
        close_reason="natural",
    )


EVENTS = [
    event(1, EventKind.METRICS, train__loss=2.0, metacog__plan__direct=0.25, perf__memory=None),
    event(
        1, EventKind.HIST, cap=[9, None], think_len=[4, 8], budget_source=["predicted", "uncapped"]
    ),
    event(1, EventKind.HEATMAP, name="gate", rows=["a", "b"], values=[[0.5, 0.25], []]),
    reply(1, correct=False, question="an old one", thought=3),
    event(1, EventKind.EVAL, eval__puzzles__accuracy=0.5, eval__puzzles__think_tokens=6.0),
    event(2, EventKind.METRICS, train__loss=1.5, metacog__plan__direct=None),
    event(2, EventKind.HIST, cap=[None], think_len=[5], budget_source=["uncapped"]),
    reply(2, correct=True, question="1 + 1?", thought=2),
    reply(2, correct=False, question="3 + 4 | 5?", thought=31),
    event(2, EventKind.ALERT, message="budget collapse"),
    event(2, EventKind.STATUS, message="done"),
]


def test_a_figure_is_drawn_where_it_is_known_and_nowhere_else() -> None:
    course = course_of(EVENTS)
    (loss,) = course.loss.series
    assert (loss.steps, loss.values) == ((1, 2), (2.0, 1.5))
    (plan,) = course.plans.series
    assert (plan.steps, plan.values) == ((1,), (0.25,)), "a missing figure is no zero"
    assert [series.name for series in course.accuracy.series] == ["eval/puzzles/accuracy"]
    assert [series.name for series in course.spending.series] == ["eval/puzzles/think_tokens"]
    assert course.confidence.series == ()


def test_budget_and_use_are_of_the_latest_step_with_a_prediction() -> None:
    budget = course_of(EVENTS).budget
    assert (budget.step, budget.predicted, budget.used) == (1, (9.0,), (4.0,))
    assert course_of([]).budget.step is None


def test_a_grid_keeps_rows_of_different_length() -> None:
    course = course_of(EVENTS)
    assert (course.gate.step, course.gate.rows) == (1, ("a", "b"))
    assert course.gate.values == ((0.5, 0.25), ())
    assert course.alpha.rows == ()


def test_what_is_wrong_is_of_the_latest_evaluation() -> None:
    assert [found["question"] for found in wrong_of(EVENTS)] == ["3 + 4 | 5?"]
    assert wrong_of([]) == []


def test_the_page_loads_nothing_and_holds_what_it_got_wrong(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    lines = "".join(f"{encode(found)}\n" for found in EVENTS)
    (run / "events.jsonl").write_text(lines, encoding="utf-8")
    result = CliRunner().invoke(app, ["report", str(run)])
    assert result.exit_code == 0, result.output
    page = Path(result.stdout.strip())
    assert page == run / "report" / "report.html"
    text = page.read_text(encoding="utf-8")
    assert "http" not in text
    assert text.count("data:image/png;base64,") == 9
    assert "&lt;b&gt;8&lt;/b&gt;" in text
    assert "<b>8</b>" not in text
    assert "an old one" not in text
    assert "budget collapse" in text
    assert "11 events up to step 2; done." in text
    summary = (run / "report" / "report.md").read_text(encoding="utf-8")
    assert "| 3 + 4 \\| 5? | 7 | <b>8</b> | 31 | -- | natural |" in summary
    numbers = json.loads((run / "report" / "gate.json").read_text(encoding="utf-8"))
    assert numbers == {"step": 1, "rows": ["a", "b"], "values": [[0.5, 0.25], []]}
    assert (run / "report" / "gate.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("content", [None, ""])
def test_a_run_that_has_not_begun_has_no_report(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "events.jsonl").write_text(content, encoding="utf-8")
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert "Wanted" in result.stderr
    assert not (tmp_path / "report").exists()
