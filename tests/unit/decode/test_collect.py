"""Replies are scored as the question's own task scores them, and traces cut at line ends."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacog.data.tasks.questions import Question, draw
from metacog.decode.collect import Rollout, line_cuts, roll_out, trace_of
from metacog.model.base import Base
from metacog.model.bundle import MetacogModel
from metacog.records import (
    BudgetReport,
    BudgetSource,
    CloseReason,
    Generation,
    Request,
    Segment,
    Step,
)


@pytest.fixture(scope="module")
def base(tiny_base_model: MetacogModel) -> Base:
    return tiny_base_model.base


def first(family: str) -> Question:
    return next(q for q in (draw(family, 0, index) for index in range(20)) if q is not None)


def reply(base: Base, number: int, think: str, answer: str) -> Generation:
    """What a base would have written, had it written this."""
    eos = base.tokenizer.eos_token_id
    parts = (
        (Segment.THINK, base.encode(think)),
        (Segment.CLOSE, base.tags.think_close),
        (Segment.ANSWER, (*base.encode(answer), eos)),
    )
    tokens = [(segment, token) for segment, ids in parts for token in ids]
    steps = tuple(
        Step(number, at, token, segment, sampled=True, altered=False, logprob=-1.0)
        for at, (segment, token) in enumerate(tokens)
    )
    used = len(base.encode(think))
    report = BudgetReport(-1, None, None, used, CloseReason.NATURAL, BudgetSource.UNCAPPED)
    return Generation(number, (1, 2), steps, report, None, None, None, finished=True)


def scored(base: Base, question: Question, answers: Sequence[str]) -> list[Rollout]:
    def decoder(requests: Sequence[Request]) -> Iterator[Generation]:
        for request, answer in reversed(list(zip(requests, answers, strict=True))):
            yield reply(base, request.id, "so", answer)

    requests = [Request(number, (1, 2)) for number in range(len(answers))]
    found = roll_out(decoder, base, dict.fromkeys(range(len(answers)), question), requests)
    return sorted(found, key=lambda rollout: rollout.generation.request_id)


@pytest.mark.parametrize("family", ["chain_sum", "gcd", "prime_factorization"])
def test_right_and_wrong_answers(base: Base, family: str) -> None:
    question = first(family)
    answers = [question.answer, f" {question.answer}\n", question.answer + "1", ""]
    rollouts = scored(base, question, answers)
    assert [rollout.correct for rollout in rollouts] == [True, True, False, False]
    assert all(rollout.question is question for rollout in rollouts)


@pytest.mark.parametrize("family", ["chain_sum", "gcd", "prime_factorization", "count_bits"])
@pytest.mark.parametrize("answer", ["3 × so", "so", "((", "²"])
def test_an_answer_that_is_no_number_is_wrong_and_no_failure(
    base: Base, family: str, answer: str
) -> None:
    assert [rollout.correct for rollout in scored(base, first(family), [answer])] == [False]


def test_replies_come_in_the_order_in_which_they_end(base: Base) -> None:
    def decoder(requests: Sequence[Request]) -> Iterator[Generation]:
        yield from (reply(base, request.id, "", "1") for request in reversed(requests))

    requests = [Request(number, (1,)) for number in (4, 7, 5)]
    questions = dict.fromkeys((4, 5, 7), first("gcd"))
    found = roll_out(decoder, base, questions, requests)
    assert [rollout.generation.request_id for rollout in found] == [5, 7, 4]


@pytest.mark.parametrize(
    ("think", "cuts"),
    [
        ((), (0,)),
        ((5, 6), (0, 2)),
        ((5, 9, 6), (0, 2, 3)),
        ((9, 9, 5, 9), (0, 1, 2, 4)),
    ],
)
def test_cuts_lie_after_line_ends(think: tuple[int, ...], cuts: tuple[int, ...]) -> None:
    assert line_cuts(think, frozenset({9})) == cuts


@given(st.lists(st.integers(0, 3)), st.frozensets(st.integers(0, 3)))
def test_cuts_rise_from_nothing_to_everything(think: list[int], ends: frozenset[int]) -> None:
    cuts = line_cuts(think, ends)
    assert (cuts[0], cuts[-1]) == (0, len(think))
    assert list(cuts) == sorted(set(cuts))
    assert all(think[cut - 1] in ends for cut in cuts[1:-1])


def test_a_trace_holds_the_right_answer_not_the_one_given(base: Base) -> None:
    question = replace(first("gcd"), answer="12")
    rollout = Rollout(question, reply(base, 0, "7\nso 5\n4", "99"), correct=False)
    trace = trace_of(rollout, base)
    assert trace.prompt == (1, 2)
    assert trace.think == base.encode("7\nso 5\n4")
    assert trace.answer == (*base.encode("12"), base.tokenizer.eos_token_id)
    lines = ["", "7\n", "7\nso 5\n", "7\nso 5\n4"]
    assert trace.cuts == tuple(len(base.encode(text)) for text in lines)
    everywhere = trace_of(rollout, base, every_token=True)
    assert everywhere.cuts == tuple(range(len(trace.think) + 1))
