import json
from dataclasses import replace
from pathlib import Path

import pytest

from metacog.errors import DataError
from metacog.eval.rows import EvalRow, read_rows, row_of, write_rows
from metacog.records import CloseReason, Generation, Segment
from tests.unit.eval.hand import (
    CLOSE,
    END,
    OPEN_EVAL,
    PLAIN_ROW,
    READER,
    generation_of,
    ids_of,
    question_of,
    reading_of,
    row,
)

QUESTION = question_of("gcd")
RIGHT = ids_of(QUESTION.answer)


def made(generation: Generation, *, need: int | None = None) -> EvalRow:
    return row_of(generation, QUESTION, READER, arm="learned", seed=3, need=need)


def test_a_row_says_what_happened() -> None:
    generation = generation_of(
        4,
        (*RIGHT, END),
        reason=CloseReason.BUDGET,
        enforced=4,
        rereadings={2: 0.4, 4: 0.7},
        reading=reading_of(4, 0.6),
    )
    found = made(generation, need=2)
    assert found == EvalRow(
        question_id=QUESTION.id,
        family="gcd",
        domain=found.domain,
        level=0,
        arm="learned",
        seed=3,
        requested=None,
        predicted=4,
        enforced=4,
        used=4,
        answer_tokens=len(RIGHT) + 1,
        spend=4 + len(RIGHT) + 1,
        close_reason=CloseReason.BUDGET,
        finished=True,
        correct=True,
        confidence=0.6,
        ready_at_close=0.7,
        rereadings=2,
        revisions=0,
        plan="outline",
        gate_coverage=None,
        need=2,
        alpha=(0.25, 0.75),
        answer_empty=False,
        answer_has_tag=False,
        answer_runs_on=False,
        no_answer_after_forced_close=False,
        cap_violation=False,
    )
    assert found.domain.value == "math"
    assert not found.escaped


def test_what_no_layer_said_is_missing() -> None:
    found = made(generation_of(4, (*RIGHT, END)))
    assert found.predicted is None
    assert found.confidence is None
    assert found.ready_at_close is None
    assert found.alpha is None
    assert found.need is None
    assert found.plan is None


def test_a_wrong_answer_is_wrong() -> None:
    assert not made(generation_of(4, (*ids_of("-7"), END))).correct


@pytest.mark.parametrize(
    ("answer", "reason", "flags"),
    [
        ((END,), CloseReason.BUDGET, (True, False, False, True)),
        ((END,), CloseReason.NATURAL, (True, False, False, False)),
        ((*RIGHT, OPEN_EVAL, END), CloseReason.BUDGET, (False, True, False, False)),
        ((*RIGHT, CLOSE, END), CloseReason.NATURAL, (False, True, False, False)),
        ((*RIGHT, *ids_of("\n12"), END), CloseReason.NATURAL, (False, False, True, False)),
    ],
)
def test_an_escape_is_seen(
    answer: tuple[int, ...], reason: CloseReason, flags: tuple[bool, ...]
) -> None:
    found = made(generation_of(4, answer, reason=reason))
    seen = (
        found.answer_empty,
        found.answer_has_tag,
        found.answer_runs_on,
        found.no_answer_after_forced_close,
    )
    assert seen == flags
    assert found.escaped
    assert not found.correct


def test_an_answer_that_its_limit_cut_runs_on() -> None:
    assert made(generation_of(4, RIGHT, finished=False)).answer_runs_on


def test_a_tag_of_several_ids_is_found_only_whole() -> None:
    reader = replace(READER, tags=((60, 101),))
    assert reader.has_tag((7, 60, 101))
    assert not reader.has_tag((60, 7, 101))
    assert not reader.has_tag((60,))


@pytest.mark.parametrize(
    ("enforced", "lowered_to", "violated"),
    [(5, None, False), (4, None, True), (9, 5, False), (9, 4, True), (None, None, False)],
)
def test_a_cap_violation_counts_the_lowest_cap(
    enforced: int | None, lowered_to: int | None, violated: bool
) -> None:
    generation = generation_of(5, (*RIGHT, END), enforced=enforced, lowered_to=lowered_to)
    assert made(generation).cap_violation is violated


def test_a_report_that_hides_tokens_does_not_hide_a_violation() -> None:
    generation = generation_of(5, (*RIGHT, END), enforced=4)
    hidden = replace(generation, budget=replace(generation.budget, used=4))
    assert made(hidden).cap_violation


def test_a_controller_that_calls_a_thought_the_answer_does_not_hide_a_violation() -> None:
    generation = generation_of(5, (*RIGHT, END), enforced=4)
    told = [Segment.THINK] * 4 + [Segment.CLOSE] + [Segment.ANSWER] * (len(RIGHT) + 2)
    steps = tuple(
        replace(step, segment=segment) for step, segment in zip(generation.steps, told, strict=True)
    )
    hidden = replace(generation, steps=steps, budget=replace(generation.budget, used=4))
    assert len(hidden.think) == hidden.budget.used == 4
    assert made(hidden).cap_violation


def test_a_second_closer_is_a_violation() -> None:
    assert made(generation_of(2, (*RIGHT, CLOSE, END), enforced=4)).cap_violation


def test_rows_survive_the_file_and_missing_stays_missing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    rows = [PLAIN_ROW, row(confidence=None, need=None, close_reason=None, alpha=(0.5, 0.5))]
    assert write_rows(path, rows) == 2
    assert list(read_rows(path)) == rows
    second = json.loads(path.read_text(encoding="utf-8").splitlines()[1])
    assert second["confidence"] is None
    assert second["need"] is None


@pytest.mark.parametrize("change", [{"seed": "x"}, {"colour": 1}, {"close_reason": "bored"}])
def test_a_line_that_is_no_row_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [PLAIN_ROW])
    value = json.loads(path.read_text(encoding="utf-8")) | change
    path.write_text(f"{json.dumps(value)}\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"line 1, but {next(iter(change))}"):
        list(read_rows(path))


def test_a_missing_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--rows"):
        list(read_rows(tmp_path / "rows.jsonl"))


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_rows(tmp_path / "rows.jsonl", [row(confidence=float("nan"))])
