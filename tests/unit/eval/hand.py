"""Replies, rows and a decoder made by hand, whose figures can be worked out on paper."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from metacog.data.tasks.families import Domain
from metacog.data.tasks.questions import Question, draw
from metacog.eval.arms import Looking
from metacog.eval.rows import AnswerReader, EvalRow
from metacog.eval.runner import Reply, Setup, TraceValues, request_id
from metacog.records import (
    BudgetReport,
    BudgetSource,
    CloseReason,
    Generation,
    Reading,
    Request,
    Rereading,
    Revision,
    RevisionKind,
    Segment,
    Step,
)

END, CLOSE, OPEN_EVAL, CLOSE_EVAL, THOUGHT = 1, 2, 3, 4, 9
"""Ids; every other id stands for the character with that code."""
MARKS = {CLOSE: "</think>", OPEN_EVAL: "<eval>", CLOSE_EVAL: "</eval>", END: "<|end|>"}
READER = AnswerReader(
    decode=lambda ids: "".join(MARKS.get(number, chr(number)) for number in ids),
    end=frozenset({END}),
    tags=((CLOSE,), (OPEN_EVAL,), (CLOSE_EVAL,)),
    close=(CLOSE,),
)
NO_LIMIT = -1


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(ord(char) for char in text)


def question_of(family: str, level: int = 0) -> Question:
    index = 0
    while (question := draw(family, level, index)) is None:
        index += 1
    return question


def steps_of(
    request_id: int,
    think: int,
    answer: Sequence[int],
    rereadings: dict[int, float] | None = None,
) -> tuple[Step, ...]:
    """Return the steps of a reply, read again after some numbers of THINK tokens."""
    readings = rereadings or {}
    tokens = [(THOUGHT, Segment.THINK)] * think + [(CLOSE, Segment.CLOSE)]
    tokens += [(token, Segment.ANSWER) for token in answer]
    return tuple(
        Step(
            request_id=request_id,
            index=index,
            token=token,
            segment=segment,
            sampled=True,
            altered=False,
            logprob=-0.5,
            rereading=Rereading(index + 1, 3.0, readings[index + 1], 0.5, 3.0)
            if segment is Segment.THINK and index + 1 in readings
            else None,
        )
        for index, (token, segment) in enumerate(tokens)
    )


def generation_of(
    think: int,
    answer: Sequence[int],
    *,
    number: int = 7,
    reason: CloseReason | None = CloseReason.NATURAL,
    enforced: int | None = None,
    rereadings: dict[int, float] | None = None,
    lowered_to: int | None = None,
    reading: Reading | None = None,
    finished: bool = True,
) -> Generation:
    steps = steps_of(number, think, answer, rereadings)
    revisions: tuple[Revision, ...] = ()
    if lowered_to is not None:
        cause = Rereading(1, 1.0, 0.5, 0.5, 1.0)
        revisions = (Revision(RevisionKind.LOWERED, enforced, lowered_to, cause),)
    return Generation(
        request_id=number,
        prompt=(5,),
        steps=steps,
        budget=BudgetReport(
            requested=None,
            predicted=None if reading is None else reading.budget,
            enforced=enforced,
            used=think,
            close_reason=reason,
            source=BudgetSource.PREDICTED,
            revisions=revisions,
        ),
        reading=reading,
        plan=None if reading is None else reading.chosen_plan,
        gate=None,
        finished=finished,
    )


def reading_of(budget: int, confidence: float) -> Reading:
    return Reading({"outline": 1.0}, "outline", budget, confidence, (0.25, 0.75))


PLAIN_ROW = EvalRow(
    question_id="q0",
    family="gcd",
    domain=Domain.MATH,
    level=0,
    arm="learned",
    seed=0,
    requested=None,
    predicted=10,
    enforced=10,
    used=8,
    answer_tokens=2,
    spend=10,
    close_reason=CloseReason.NATURAL,
    finished=True,
    correct=True,
    confidence=0.75,
    ready_at_close=None,
    rereadings=0,
    revisions=0,
    plan="outline",
    gate_coverage=None,
    need=6,
    alpha=None,
    answer_empty=False,
    answer_has_tag=False,
    answer_runs_on=False,
    no_answer_after_forced_close=False,
    cap_violation=False,
)


def row(**changes: object) -> EvalRow:
    """Return a row that differs from the plain one; spend follows from its parts."""
    changed = replace(PLAIN_ROW, **changes)  # type: ignore[arg-type]
    return replace(changed, spend=changed.used + changed.answer_tokens)


@dataclass(frozen=True)
class Script:
    """How every reply to one question goes: right from `need` THINK tokens on, if ever."""

    natural: int
    need: int | None
    predicted: int
    stops_at: int
    """Where re-readings that act close THINK."""


@dataclass
class ScriptedDecoder:
    """Answers by script; what it was asked for is kept."""

    looking: Looking
    scripts: dict[int, Script]
    answers: dict[int, str]
    asked: list[Request] = field(default_factory=list)

    def __call__(self, requests: Sequence[Request]) -> Iterator[Generation]:
        self.asked += requests
        for request in reversed(requests):
            yield self._reply(request)

    def _reply(self, request: Request) -> Generation:
        script = self.scripts[request.id]
        cap = script.predicted if request.budget is None else request.budget
        cap = script.natural + 1 if cap == NO_LIMIT else cap
        stop = script.stops_at if self.looking is Looking.ACTING else script.natural
        used = min(cap, stop, script.natural)
        right = script.need is not None and used >= script.need
        reasons = {script.natural: CloseReason.NATURAL, cap: CloseReason.BUDGET}
        text = self.answers[request.id] if right else "?"
        looks = self.looking is not Looking.AWAY
        return generation_of(
            used,
            (*ids_of(text), END),
            number=request.id,
            reason=reasons.get(used, CloseReason.CONFIDENT),
            enforced=None if request.budget == NO_LIMIT else cap,
            rereadings=ready_at_ends(script, used) if looks else None,
            reading=reading_of(script.predicted, 0.9 if script.need is not None else 0.2),
        )


def ready_at_ends(script: Script, used: int) -> dict[int, float]:
    """Return a re-reading after every third token: high where closing would be right."""
    need = script.natural + 1 if script.need is None else script.need
    return {at: 0.8 if at >= need else 0.3 for at in range(3, used + 1, 3)}


def values_of(scripts: dict[int, Script]) -> object:
    """Return what values uncapped replies exactly, as the script says."""

    def values(replies: Sequence[Reply]) -> list[TraceValues]:
        return [
            _values(scripts[request_id(reply.question)], len(reply.question.answer) + 1)
            for reply in replies
        ]

    return values


def _values(script: Script, answer_tokens: int) -> TraceValues:
    cuts = tuple(range(script.natural + 1))
    need = script.natural + 1 if script.need is None else script.need
    right = tuple(float(cut >= need) for cut in cuts)
    return TraceValues(cuts, right, answer_tokens, script.need)


def setup_of(questions: Sequence[Question], scripts: Sequence[Script]) -> Setup:
    numbers = [request_id(question) for question in questions]
    by_id = dict(zip(numbers, scripts, strict=True))
    answers = {n: question.answer for n, question in zip(numbers, questions, strict=True)}
    return Setup(
        decoders={looking: ScriptedDecoder(looking, by_id, answers) for looking in Looking},
        render=lambda question: ids_of(question.text),
        reader=READER,
        values=values_of(by_id),  # type: ignore[arg-type]
        values_batch=2,
    )
