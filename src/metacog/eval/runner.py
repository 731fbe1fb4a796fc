"""Runs arms through the decoder: the same questions, request ids and seeds in every arm."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from metacog.data.tasks.questions import Question
from metacog.errors import RunError
from metacog.eval.arms import UNCAPPED_ARM, Arm, Looking
from metacog.eval.cheap import CheapTrace
from metacog.eval.rows import AnswerReader, EvalRow, RowKey, row_of
from metacog.records import CloseReason, Generation, Request

Decoder = Callable[[Sequence[Request]], Iterable[Generation]]
"""Answers requests, in any order."""


@dataclass(frozen=True)
class Sampling:
    """How every arm draws tokens; the answer's limit is the same in all of them."""

    temperature: float = 0.6
    top_p: float = 1.0
    """The exact values of prefixes hold for 1 only."""
    max_new_tokens: int = 512
    max_answer_tokens: int = 64


@dataclass(frozen=True)
class Reply:
    """One reply and what it answers."""

    question: Question
    seed: int
    generation: Generation


@dataclass(frozen=True)
class TraceValues:
    """What closing one reply's thinking at each cut is worth."""

    cuts: tuple[int, ...]
    """THINK tokens, rising, from 0 to all of them."""
    right: tuple[float, ...]
    """Probability of a right answer there, under the sampler of the arms."""
    answer_tokens: int
    """Of the right answer, the end of the reply counted."""
    need: int | None


@dataclass(frozen=True)
class ReadyPoint:
    """A re-reading and how probable a right answer is if THINK closes there."""

    ready: float
    right: float


@dataclass(frozen=True)
class Setup:
    """Everything that an evaluation is given from outside."""

    decoders: Mapping[Looking, Decoder]
    render: Callable[[Question], Sequence[int]]
    """Ids of a question's prompt, the opener of THINK last."""
    reader: AnswerReader
    values: Callable[[Sequence[Reply]], Sequence[TraceValues]]
    """Values of uncapped replies, a batch at a time."""
    sampling: Sampling = Sampling()
    values_batch: int = 32
    """Replies that are valued at once."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    arm: str
    done: int
    total: int
    seconds_left: float | None
    """At the mean speed so far; None before the first reply."""


class ProgressMeter:
    """Counts replies over all arms and tells how long the rest will take."""

    def __init__(
        self,
        total: int,
        report: Callable[[Progress], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._report, self._clock = total, report, clock
        self._start, self._done = clock(), 0

    def advance(self, arm: str) -> None:
        """Count one reply."""
        self._done += 1
        seconds = self._clock() - self._start
        left = max(self._total - self._done, 0) * seconds / self._done
        self._report(Progress(arm, self._done, self._total, left))


@dataclass(frozen=True)
class Uncapped:
    """The uncapped arm's rows with what its traces are worth."""

    rows: list[EvalRow]
    traces: list[CheapTrace]
    ready: list[ReadyPoint]

    @property
    def needs(self) -> dict[RowKey, int | None]:
        """Need of each question and seed."""
        return {row.key: row.need for row in self.rows}


def request_id(question: Question) -> int:
    """Return the number that keys a question's sampling noise, the same in every arm and run."""
    return int(question.id[:12], 16)


class Runner:
    """Runs arms on one set of questions and sampling seeds."""

    def __init__(
        self,
        setup: Setup,
        questions: Sequence[Question],
        seeds: Sequence[int],
        meter: ProgressMeter | None = None,
    ) -> None:
        self.setup, self.seeds = setup, tuple(seeds)
        self._meter = meter
        self._questions = {request_id(question): question for question in questions}
        if len(self._questions) != len(questions):
            raise ValueError(
                f"An evaluation wants distinct questions, got {len(questions)} with "
                f"{len(self._questions)} ids. Draw them with `draw_questions`."
            )
        self._prompts = {
            number: tuple(setup.render(question)) for number, question in self._questions.items()
        }

    def unknown_needs(self) -> dict[RowKey, int | None]:
        """Return that no need is known, for arms that are run without valuing any trace."""
        return {(q.id, seed): None for q in self._questions.values() for seed in self.seeds}

    def run(self, arm: Arm, needs: Mapping[RowKey, int | None]) -> list[EvalRow]:
        """Return one row for every question and seed, in order of their keys."""
        rows = [
            self._row(reply, arm, needs[reply.question.id, reply.seed])
            for reply in self._replies(arm)
        ]
        return sorted(rows, key=lambda row: row.key)

    def run_uncapped(self, arm: Arm = UNCAPPED_ARM) -> Uncapped:
        """Run without caps, and value every prefix of every trace."""
        rows, traces, ready = [], [], []
        replies = self._replies(arm)  # turned into rows as they come: steps are many
        while batch := list(islice(replies, self.setup.values_batch)):
            for reply, values in zip(batch, self.setup.values(batch), strict=True):
                ended = reply.generation.budget.close_reason is CloseReason.NATURAL
                need = values.need if ended else None  # cut by the reply's limit: need is not known
                rows.append(self._row(reply, arm, need))
                traces.append(trace_of(reply, replace(values, need=need)))
                ready += ready_points(reply, values)
        rows.sort(key=lambda row: row.key)
        traces.sort(key=lambda trace: (trace.question_id, trace.seed))
        return Uncapped(rows, traces, ready)

    def _row(self, reply: Reply, arm: Arm, need: int | None) -> EvalRow:
        reader, seed = self.setup.reader, reply.seed
        return row_of(reply.generation, reply.question, reader, arm=arm.name, seed=seed, need=need)

    def _replies(self, arm: Arm) -> Iterator[Reply]:
        for seed in self.seeds:
            missing = set(self._questions)
            for generation in self.setup.decoders[arm.looking](self._requests(arm, seed)):
                missing.remove(generation.request_id)
                if self._meter is not None:
                    self._meter.advance(arm.name)
                yield Reply(self._questions[generation.request_id], seed, generation)
            if missing:
                raise RunError(
                    f"The decoder was asked for {len(self._questions)} replies of arm {arm.name} "
                    f"with seed {seed}; {len(missing)} never came. Run the evaluation again."
                )

    def _requests(self, arm: Arm, seed: int) -> list[Request]:
        sampling = self.setup.sampling
        return [
            Request(
                id=number,
                prompt=self._prompts[number],
                budget=arm.budget(question.id, question.family, seed),
                seed=seed,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_new_tokens=sampling.max_new_tokens,
                max_answer_tokens=sampling.max_answer_tokens,
            )
            for number, question in self._questions.items()
        ]


def trace_of(reply: Reply, values: TraceValues) -> CheapTrace:
    """Return what is kept of an uncapped reply for matching caps.

    Wrong answers are taken to be as long as the right one, until `with_wrong_lengths` knows better.
    """
    generation = reply.generation
    if values.cuts[-1] != len(generation.think):
        raise ValueError(
            f"The values of a trace want a cut at its end, {len(generation.think)} THINK tokens, "
            f"got one at {values.cuts[-1]} last (question {reply.question.id})."
        )
    return CheapTrace(
        question_id=reply.question.id,
        family=reply.question.family,
        seed=reply.seed,
        cuts=values.cuts,
        right=values.right,
        answer_right=float(values.answer_tokens),
        answer_wrong=float(values.answer_tokens),
        need=values.need,
    )


def ready_points(reply: Reply, values: TraceValues) -> list[ReadyPoint]:
    """Return the re-readings of a reply that stand at a cut of known value."""
    right = dict(zip(values.cuts, values.right, strict=True))
    readings = [s.rereading for s in reply.generation.steps if s.rereading is not None]
    return [ReadyPoint(r.ready, right[r.used]) for r in readings if r.used in right]
