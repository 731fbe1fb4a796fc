from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.errors import RunError
from metacog.eval.arms import LEARNED_ARM, Looking, cap_arm
from metacog.eval.runner import (
    Progress,
    ProgressMeter,
    ReadyPoint,
    Runner,
    Setup,
    TraceValues,
    request_id,
)
from metacog.records import Generation, Request
from tests.unit.eval.hand import Script, ScriptedDecoder, ids_of, setup_of

QUESTIONS = draw_questions(Split.TEST, 3, families=("gcd", "ab", "leg_counting"))
SCRIPTS = [Script(9, 5, 7, 6), Script(12, None, 4, 12), Script(6, 6, 3, 6)]
NEED = {(question.id, 0): None for question in QUESTIONS}


def decoder_of(setup: Setup, looking: Looking) -> ScriptedDecoder:
    decoder = setup.decoders[looking]
    assert isinstance(decoder, ScriptedDecoder)
    return decoder


def test_the_uncapped_arm_brings_needs_traces_and_re_readings() -> None:
    runner = Runner(setup_of(QUESTIONS, SCRIPTS), QUESTIONS, [0, 1])
    found = runner.run_uncapped()
    assert len(found.rows) == len(found.traces) == 6
    first, second, third = (question.id for question in QUESTIONS)
    assert found.needs[first, 1] == 5
    assert found.needs[second, 0] is None
    by_key = {(trace.question_id, trace.seed): trace for trace in found.traces}
    assert by_key[third, 0].natural == 6
    assert by_key[third, 0].answer_right == len(QUESTIONS[2].answer) + 1
    assert {row.key: row.used for row in found.rows}[first, 0] == 9
    # The first question is read again after 3, 6 and 9 tokens, and right from 5 on.
    of_first = [ReadyPoint(0.3, 0.0), ReadyPoint(0.8, 1.0), ReadyPoint(0.8, 1.0)]
    of_second = [ReadyPoint(0.3, 0.0)] * 4
    of_third = [ReadyPoint(0.3, 0.0), ReadyPoint(0.8, 1.0)]
    expected = (of_first + of_second + of_third) * 2
    assert sorted(found.ready, key=repr) == sorted(expected, key=repr)


def test_rows_of_all_arms_share_request_and_seed() -> None:
    setup = setup_of(QUESTIONS, SCRIPTS)
    runner = Runner(setup, QUESTIONS, [0])
    rows = runner.run(LEARNED_ARM, NEED)
    capped = runner.run(cap_arm(4), NEED)
    assert [row.key for row in rows] == [row.key for row in capped]
    acting, away = (decoder_of(setup, looking).asked for looking in (Looking.ACTING, Looking.AWAY))
    assert [(r.id, r.seed, r.prompt) for r in acting] == [(r.id, r.seed, r.prompt) for r in away]
    assert {request.budget for request in acting} == {None}
    assert {request.budget for request in away} == {4}
    assert acting[0].id == request_id(QUESTIONS[0])
    assert acting[0].prompt == ids_of(QUESTIONS[0].text)
    assert len({(r.max_answer_tokens, r.temperature) for r in acting + away}) == 1


def test_every_sampling_seed_is_asked_for() -> None:
    setup = setup_of(QUESTIONS, SCRIPTS)
    rows = Runner(setup, QUESTIONS, [3, 8]).run(
        cap_arm(4), {(question.id, seed): None for question in QUESTIONS for seed in (3, 8)}
    )
    assert [request.seed for request in decoder_of(setup, Looking.AWAY).asked] == [3] * 3 + [8] * 3
    assert sorted(row.seed for row in rows) == [3] * 3 + [8] * 3


def test_rows_say_what_each_arm_did() -> None:
    runner = Runner(setup_of(QUESTIONS, SCRIPTS), QUESTIONS, [0])
    used = {row.question_id: row.used for row in runner.run(LEARNED_ARM, NEED)}
    assert [used[question.id] for question in QUESTIONS] == [6, 4, 3]
    rows = {row.question_id: row for row in runner.run(cap_arm(5), NEED)}
    assert [rows[question.id].correct for question in QUESTIONS] == [True, False, False]
    assert {row.rereadings for row in rows.values()} == {0}
    assert {row.arm for row in rows.values()} == {"cap.5"}


def test_progress_counts_every_reply_and_estimates_the_rest() -> None:
    times = iter([0.0, 2.0, 4.0, 6.0])
    seen: list[Progress] = []
    meter = ProgressMeter(9, seen.append, clock=lambda: next(times))
    Runner(setup_of(QUESTIONS, SCRIPTS), QUESTIONS, [0], meter).run(cap_arm(5), NEED)
    assert seen == [
        Progress("cap.5", 1, 9, 16.0),
        Progress("cap.5", 2, 9, 14.0),
        Progress("cap.5", 3, 9, 12.0),
    ]


def test_a_reply_that_never_comes_is_an_error() -> None:
    setup = setup_of(QUESTIONS, SCRIPTS)

    def loses_one(requests: Sequence[Request]) -> Iterator[Generation]:
        return setup.decoders[Looking.AWAY](requests[1:]).__iter__()

    broken = replace(setup, decoders={**setup.decoders, Looking.AWAY: loses_one})
    with pytest.raises(RunError, match=r"asked for 3 replies of arm cap\.5 with seed 0; 1 never"):
        Runner(broken, QUESTIONS, [0]).run(cap_arm(5), NEED)


def test_values_must_reach_the_end_of_the_trace() -> None:
    setup = setup_of(QUESTIONS, SCRIPTS)
    short = replace(
        setup, values=lambda replies: [TraceValues((0,), (0.5,), 2, None)] * len(replies)
    )
    with pytest.raises(ValueError, match="a cut at its end, 6 THINK tokens, got one at 0"):
        Runner(short, QUESTIONS, [0]).run_uncapped()


def test_a_question_may_stand_there_only_once() -> None:
    with pytest.raises(ValueError, match="distinct questions, got 4 with 3 ids"):
        Runner(setup_of(QUESTIONS, SCRIPTS), [*QUESTIONS, QUESTIONS[0]], [0])
