from random import Random

import pytest

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.questions import Question
from metacog.data.tasks.splits import Split
from metacog.decode.budget import BudgetController, ControllerSettings
from metacog.model.base import Base
from metacog.model.bundle import MetacogModel
from metacog.records import BudgetReport, BudgetSource, CloseReason, Generation, Segment
from metacog.text.render import render
from metacog.train.given import GivenTrace, cut_at, given_trace

FAMILIES = ("chain_sum", "count_bits", "leg_counting")
LONG = 10_000

Emitted = tuple[int, Segment, bool]


@pytest.fixture(scope="module")
def base(tiny_base_model: MetacogModel) -> Base:
    return tiny_base_model.base


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return draw_questions(Split.LAYER_TRAIN, 12, families=FAMILIES)


@pytest.fixture(scope="module")
def given(base: Base, questions: list[Question]) -> list[tuple[Question, GivenTrace]]:
    """Many traces of a few questions."""
    return [(q, given_trace(base, q, Random(seed))) for q in questions for seed in range(40)]


def lines_of(base: Base, reply: Generation) -> list[tuple[str, set[bool]]]:
    """Return each line of the thinking, with what its tokens say of being sampled."""
    found: list[tuple[str, set[bool]]] = []
    ids: list[int] = []
    flags: set[bool] = set()
    for step in reply.steps:
        if step.segment is Segment.THINK:
            ids.append(step.token)
            flags.add(step.sampled)
            text = base.decode(ids, with_control=True)
            if text.endswith(("\n", "<exec>", "<eval>")):
                found.append((text.strip("\n"), flags))
                ids, flags = [], set()
    assert not ids, "thinking ends with a line"
    return found


def test_ids_decode_to_the_trace_and_the_answer(
    base: Base, given: list[tuple[Question, GivenTrace]]
) -> None:
    outlines = 0
    for question, trace in given:
        reply = trace.reply
        *work, answer = question.lines
        body = "".join(f"{line}\n" for line in work)
        clean = f"<plan>outline</plan>\n<exec>{body}>{answer}\n</exec>\n"
        text = base.decode(reply.think, with_control=True)
        assert text.startswith(f"<plan>{trace.plan}</plan>\n<exec>")
        if trace.plan == "outline" and all(step.sampled for step in reply.steps):
            assert text == clean
            outlines += 1
        assert base.decode(reply.answer) == question.answer
        assert reply.answer[-1] == base.tokenizer.eos_token_id
        closer = [step.token for step in reply.steps if step.segment is Segment.CLOSE]
        assert base.decode(closer, with_control=True) == "</think>"
        prompt = render(base.tokenizer, [{"role": "user", "content": question.text}])
        assert reply.prompt == tuple(prompt)
    assert outlines > len(given) // 5
    assert {trace.plan for _, trace in given} == {"outline", "decompose", "verify"}


def test_segments_follow_each_other_and_the_report_counts_the_thinking(
    given: list[tuple[Question, GivenTrace]],
) -> None:
    order = (Segment.THINK, Segment.CLOSE, Segment.ANSWER)
    for _, trace in given:
        reply = trace.reply
        assert [step.index for step in reply.steps] == list(range(len(reply.steps)))
        places = [order.index(step.segment) for step in reply.steps]
        assert places == sorted(places)
        assert set(places) == {0, 1, 2}
        assert reply.budget.used == len(reply.think) == places.count(0)
        assert reply.budget.close_reason is CloseReason.NATURAL
        assert not any(step.altered for step in reply.steps)
        assert (reply.plan, reply.finished) == (trace.plan, True)


def test_exactly_the_slips_count_as_not_sampled(
    base: Base, given: list[tuple[Question, GivenTrace]]
) -> None:
    slips = 0
    for question, trace in given:
        *work, answer = question.lines
        lines = lines_of(base, trace.reply)
        assert [line for line, _ in lines[:2]] == [f"<plan>{trace.plan}</plan>", "<exec>"]
        end = 2 + len(question.lines)
        for (line, sampled), right in zip(lines[2:end], [*work, f">{answer}"], strict=True):
            assert sampled == {line == right}
            slips += line != right
        assert all(sampled == {True} for _, sampled in lines[:2] + lines[end:])
        rest = [step for step in trace.reply.steps if step.segment is not Segment.THINK]
        assert all(step.sampled for step in rest)
    assert slips > 20


def test_the_same_seed_gives_the_same_trace(base: Base, questions: list[Question]) -> None:
    one, again, other = (given_trace(base, questions[0], Random(seed)) for seed in (3, 3, 4))
    assert one == again
    assert one != other


def controlled(base: Base, reply: Generation, budget: int) -> tuple[list[Emitted], BudgetReport]:
    """Feed a reply's tokens to the engine's controller, which forces what it forces."""
    settings = ControllerSettings(min_think=1, answer_reserve=LONG, debug=True)
    controller = BudgetController(
        base.tags, settings, budget=budget, max_new_tokens=3 * LONG, max_answer_tokens=LONG
    )
    marks = [step.token for step in reply.steps if step.segment is not Segment.ANSWER]
    thought, answer, emitted = iter(marks), iter(reply.answer), list[Emitted]()
    while not controller.done:
        decision, segment = controller.decide(), controller.segment
        offered = decision.forced
        if offered is None:
            offered = next(answer if segment is Segment.ANSWER else thought)
        assert offered not in decision.suppressed
        token, altered = controller.resolve(offered)
        assert not altered
        emitted.append((token, controller.observe(token), decision.forced is None))
    return emitted, controller.report(requested=None, predicted=None, source=BudgetSource.UNCAPPED)


@pytest.fixture(scope="module")
def clean(given: list[tuple[Question, GivenTrace]]) -> list[Generation]:
    """Traces without slips: there, `sampled` tells forced tokens alone."""
    whole = [trace.reply for _, trace in given if all(s.sampled for s in trace.reply.steps)]
    return whole[::9]


@pytest.mark.parametrize("short", [None, 20, 2, 1])
def test_a_cut_reply_is_what_the_controller_makes_of_it(
    base: Base, clean: list[Generation], short: int | None
) -> None:
    for reply in clean:
        budget = 1 if short is None else reply.budget.used - short
        emitted, report = controlled(base, reply, budget)
        cut = cut_at(reply, budget)
        assert [(s.token, s.segment, s.sampled) for s in cut.steps] == emitted
        assert (cut.budget.used, cut.budget.enforced) == (report.used, report.enforced)
        assert cut.budget.close_reason is report.close_reason is CloseReason.BUDGET


@pytest.mark.parametrize("more", [0, 1, 50])
def test_a_reply_that_just_fits_is_what_the_controller_makes_of_it(
    base: Base, clean: list[Generation], more: int
) -> None:
    for reply in clean:
        budget = reply.budget.used + more
        emitted, report = controlled(base, reply, budget)
        cut = cut_at(reply, budget)
        assert [(s.token, s.segment, s.sampled) for s in cut.steps] == emitted
        assert cut.budget.close_reason is report.close_reason


def test_exactly_the_budget_is_kept_with_a_forced_closer_and_the_whole_answer(
    given: list[tuple[Question, GivenTrace]],
) -> None:
    for number, (_, trace) in enumerate(given):
        reply = trace.reply
        budget = 1 + number % (reply.budget.used - 1)
        cut = cut_at(reply, budget)
        assert cut.think == reply.think[:budget]
        assert cut.answer == reply.answer
        assert cut.budget.used == budget
        assert [step.index for step in cut.steps] == list(range(len(cut.steps)))
        closers = [step for step in cut.steps if step.segment is Segment.CLOSE]
        assert [step.sampled for step in closers] == [False]
        kept = [step.sampled for step in reply.steps][:budget]
        assert [step.sampled for step in cut.steps][:budget] == kept, "a slip stays a slip"
        assert (cut.prompt, cut.plan, cut.finished) == (reply.prompt, reply.plan, True)


def test_a_reply_that_closes_within_the_budget_stays_as_it_is(
    given: list[tuple[Question, GivenTrace]],
) -> None:
    for _, trace in given:
        assert cut_at(trace.reply, trace.reply.budget.used + 1) == trace.reply
