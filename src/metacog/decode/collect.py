"""Rollouts of verifiable questions: requests made, replies scored, traces cut."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from metacog.data.tasks.questions import Question, score
from metacog.decode.prefixes import Trace
from metacog.model.base import Base
from metacog.records import Generation, Request

Decoder = Callable[[Sequence[Request]], Iterable[Generation]]
"""Answers requests; `Engine.generate` is one."""


@dataclass(frozen=True)
class Rollout:
    """One reply to a question, and whether it was right."""

    question: Question
    generation: Generation
    correct: bool


def roll_out(
    decoder: Decoder,
    base: Base,
    questions: Mapping[int, Question],
    requests: Sequence[Request],
) -> Iterator[Rollout]:
    """Yield scored rollouts in the order in which they end.

    Args:
        decoder: Answers the requests.
        base: Decodes answers to text.
        questions: The question of each request, by the request's id.
        requests: What to ask.
    """
    for generation in decoder(requests):
        question = questions[generation.request_id]
        yield Rollout(question, generation, score(question, said(generation, base)))


def said(generation: Generation, base: Base) -> str:
    """Return a reply's answer as it is scored: without its end, with every mark that came back.

    A mark in the answer makes it wrong, so none is left out.
    """
    ids = list(generation.answer)
    while ids and ids[-1] in base.tags.eos:
        ids.pop()
    return base.decode(ids, with_control=True)


def line_cuts(think: Sequence[int], line_ends: frozenset[int]) -> tuple[int, ...]:
    """Return the numbers of THINK tokens after which a line has ended, 0 and the end included."""
    ends = {index + 1 for index, token in enumerate(think) if token in line_ends}
    return tuple(sorted({0, *ends, len(think)}))


def trace_of(rollout: Rollout, base: Base, *, every_token: bool = False) -> Trace:
    """Return a rollout's thinking with the right answer, cut at its line ends or everywhere."""
    think = rollout.generation.think
    if every_token:
        cuts: tuple[int, ...] = tuple(range(len(think) + 1))
    else:
        cuts = line_cuts(think, base.tags.line_ends)
    ended = (*base.encode(rollout.question.answer), base.tokenizer.eos_token_id)
    return Trace(rollout.generation.prompt, think, ended, cuts)
