"""Given traces as replies: what a solver or a data set wrote, in the segments that the engine reports."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from metacog.data.encode import EncodedExample
from metacog.data.tasks.questions import Question
from metacog.data.tasks.traces import choose_plan, think
from metacog.model.base import Base
from metacog.records import BudgetReport, BudgetSource, CloseReason, Generation, Segment, Step
from metacog.text.render import render


@dataclass(frozen=True)
class GivenTrace:
    """A question with a trace that answers it, whole."""

    reply: Generation
    plan: str | None
    """The plan that it was written under, or None where nobody knows."""
    id: str
    """Of its question, or the source and name of its row."""


def given_trace(base: Base, question: Question, rng: Random) -> GivenTrace:
    """Return a question's trace under a plan drawn at random, as the base was taught.

    A slip in the trace is a token that nobody shall learn: it counts as forced.
    """
    plan = choose_plan(question.lines, rng, may_be_direct=False)
    thought: list[tuple[int, bool]] = []
    for piece in think(question.lines, plan, rng):
        thought += [(token, piece.trained) for token in base.encode(piece.text)]
    answer = (*base.encode(question.answer), base.tokenizer.eos_token_id)
    prompt = render(base.tokenizer, [{"role": "user", "content": question.text}])
    return as_trace(base, tuple(prompt), thought, answer, plan, question.id)


def text_trace(base: Base, encoded: EncodedExample) -> GivenTrace:
    """Return a data set's example as a trace of which every token is learned; its plan is not known."""
    thought = [(token, True) for token in encoded.think]
    name = f"{encoded.example.source}/{encoded.example.id}"
    return as_trace(base, encoded.prompt, thought, encoded.answer, None, name)


def as_trace(
    base: Base,
    prompt: tuple[int, ...],
    thought: Sequence[tuple[int, bool]],
    answer: Sequence[int],
    plan: str | None,
    name: str,
) -> GivenTrace:
    """Return a reply that thinks, closes and answers by itself.

    Args:
        base: Whose ids they are.
        prompt: Ids of the rendered prompt.
        thought: THINK tokens, and whether each is learned.
        answer: ANSWER tokens, its end included.
        plan: That it was written under, or None where nobody knows.
        name: What a bad step is told by: `GivenTrace.id`.
    """
    written = [
        *((token, Segment.THINK, trained) for token, trained in thought),
        *((token, Segment.CLOSE, True) for token in base.tags.think_close),
        *((token, Segment.ANSWER, True) for token in answer),
    ]
    steps = tuple(
        Step(0, index, token, segment, sampled=trained, altered=False, logprob=0.0)
        for index, (token, segment, trained) in enumerate(written)
    )
    report = BudgetReport(
        requested=None,
        predicted=None,
        enforced=None,
        used=len(thought),
        close_reason=CloseReason.NATURAL,
        source=BudgetSource.UNCAPPED,
    )
    reply = Generation(0, prompt, steps, report, None, plan, None, finished=True)
    return GivenTrace(reply, plan, name)


def cut_at(reply: Generation, budget: int) -> Generation:
    """Return a reply as the controller would have cut it: `budget` THINK tokens, forced closer.

    A reply that closes by itself before the budget is spent stays as it is; one that would close
    just there is closed by force.
    """
    if reply.budget.used < budget:
        return reply
    kept = [step for step in reply.steps if step.segment is Segment.THINK][:budget]
    closer = [replace(s, sampled=False) for s in reply.steps if s.segment is Segment.CLOSE]
    answer = [step for step in reply.steps if step.segment is Segment.ANSWER]
    steps = _numbered([*kept, *closer, *answer])
    report = replace(reply.budget, enforced=budget, used=budget, close_reason=CloseReason.BUDGET)
    return replace(reply, steps=steps, budget=report)


def _numbered(steps: Sequence[Step]) -> tuple[Step, ...]:
    return tuple(replace(step, index=index) for index, step in enumerate(steps))
