"""The small evaluation of a run: the same few logic puzzles again and again, answered greedily.

A base that reads English is asked the riddles of `data/tasks/riddles.py`; one that would have to spell
their words, as the bundled base, a question of each level of the logic families, of the validation
split.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from torch import nn

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.families import FAMILIES, NUM_LEVELS, Domain
from metacog.data.tasks.questions import score
from metacog.data.tasks.riddles import RIDDLES, answers
from metacog.data.tasks.splits import Split
from metacog.decode.collect import said
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.model.base import Base
from metacog.model.bundle import MetacogModel
from metacog.records import Generation, Reading, Request
from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.samples import Sample, Verdict
from metacog.text.render import render

SUITE = "puzzles"

_MOST_TOKENS_A_WORD = 2.5
"""A vocabulary that takes more for the words of the riddles was not made for English."""


@dataclass(frozen=True)
class Puzzle:
    """A question with a way to tell whether an answer is right."""

    id: str
    text: str
    wanted: str
    is_right: Callable[[str], bool]


def puzzles_for(base: Base) -> tuple[Puzzle, ...]:
    """Return the fixed set for a base: eight puzzles, easiest first where they have levels."""
    if reads_english(base):
        return tuple(Puzzle(r.id, r.text, r.answer, partial(answers, r)) for r in RIDDLES)
    families = [family.name for family in FAMILIES.values() if family.domain is Domain.LOGIC]
    drawn = draw_questions(Split.VALIDATION, NUM_LEVELS * len(families), families=families)
    # They come in turn over families and, within each, over levels.
    chosen = [drawn[level * len(families) + level % len(families)] for level in range(NUM_LEVELS)]
    return tuple(Puzzle(q.id, q.text, q.answer, partial(score, q)) for q in chosen)


def reads_english(base: Base) -> bool:
    """Say whether the base's vocabulary holds the words of the riddles, or most of them."""
    words = sum(len(riddle.text.split()) for riddle in RIDDLES)
    return sum(len(base.encode(riddle.text)) for riddle in RIDDLES) <= _MOST_TOKENS_A_WORD * words


class Verdicts:
    """Remembers what each puzzle's answer has been, and since which step.

    Args:
        samples: Events of an earlier part of the same run, in their order.
    """

    def __init__(self, samples: Iterable[Event] = ()) -> None:
        self._known: dict[str, Verdict] = {}
        for sample in samples:
            if sample.kind is EventKind.SAMPLE and sample.data.get("suite") == SUITE:
                self.note(str(sample.data["id"]), bool(sample.data["correct"]), sample.step)

    def note(self, puzzle: str, correct: bool, step: int) -> tuple[int, Verdict | None]:
        """Return since which step the verdict holds, and the former one where it has just changed."""
        before = self._known.get(puzzle)
        if before is not None and before.correct == correct:
            return before.since, None
        self._known[puzzle] = Verdict(correct, step)
        return step, before


@dataclass(frozen=True)
class Asked:
    """What a model answered to its puzzles."""

    samples: list[Sample]
    heatmaps: list[Mapping[str, object]]
    """Grids with a row for each puzzle: `gate`, ||gated - ungated|| at each THINK token in turn;
    `alpha`, the aggregator's weight of each block at the end of the prompt; `agreement`, 1 where the
    likeliest plan of that block's expert is the reading's, else 0. None without the part that it is
    about."""


class PuzzleBoard:
    """Asks a model its puzzles and keeps account of them.

    Puzzles that leave the base no room for a reply are left out.

    Args:
        base: Chooses the set and renders it.
        verdicts: What is known from an earlier part of the run.
    """

    def __init__(self, base: Base, verdicts: Verdicts | None = None) -> None:
        self.puzzles = [puzzle for puzzle in puzzles_for(base) if _fits(base, puzzle)]
        self._verdicts = Verdicts() if verdicts is None else verdicts

    def ask(self, model: MetacogModel, step: int) -> Asked:
        """Return the model's greedy replies under its own budgets, in the order of the puzzles."""
        if not self.puzzles:
            return Asked([], [])
        requests = [_request(model, number, p) for number, p in enumerate(self.puzzles)]
        with answering(model):
            engine = Engine(model, engine_settings(model, rows=len(requests), telemetry=True))
            found = {reply.request_id: reply for reply in engine.generate(requests)}
        replies = [found[number] for number in sorted(found)]
        samples = [self._sample(model.base, n, reply, step) for n, reply in enumerate(replies)]
        return Asked(samples, _heatmaps(self.puzzles, replies))

    def _sample(self, base: Base, number: int, reply: Generation, step: int) -> Sample:
        puzzle, answer = self.puzzles[number], said(reply, base)
        correct = puzzle.is_right(answer)
        since, before = self._verdicts.note(puzzle.id, correct, step)
        reason = reply.budget.close_reason
        return Sample(
            suite=SUITE,
            number=number + 1,
            id=puzzle.id,
            question=puzzle.text,
            wanted=puzzle.wanted,
            thinking=base.decode(reply.think, with_control=True),
            answer=answer.strip(),
            correct=correct,
            think_tokens=reply.budget.used,
            budget=reply.budget.enforced,
            close_reason=None if reason is None else reason.value,
            plan=reply.plan,
            confidence=None if reply.reading is None else reply.reading.confidence,
            since=since,
            before=before,
        )


def _heatmaps(
    puzzles: Sequence[Puzzle], replies: Sequence[Generation]
) -> list[Mapping[str, object]]:
    gate = [None if reply.gate is None else reply.gate.per_token for reply in replies]
    alpha = [None if reply.reading is None else reply.reading.alpha for reply in replies]
    agreement = [None if reply.reading is None else _agreement(reply.reading) for reply in replies]
    return [
        {
            "name": name,
            "suite": SUITE,
            "rows": [puzzle.id for puzzle in puzzles],
            "values": [list(row or ()) for row in rows],
        }
        for name, rows in (("gate", gate), ("alpha", alpha), ("agreement", agreement))
        if any(row is not None for row in rows)
    ]


def _agreement(reading: Reading) -> tuple[float, ...] | None:
    """Return for each block that is read whether its expert would have chosen the reading's plan."""
    names = list(reading.plan)
    likeliest = [names[max(range(len(names)), key=e.plan.__getitem__)] for e in reading.per_layer]
    return tuple(float(name == reading.chosen_plan) for name in likeliest) or None


def puzzle_figures(samples: Sequence[Sample]) -> Mapping[str, float]:
    """Return accuracy and mean THINK tokens by event name; nothing without samples."""
    if not samples:
        return {}
    return {
        f"eval/{SUITE}/accuracy": fmean(sample.correct for sample in samples),
        f"eval/{SUITE}/think_tokens": fmean(sample.think_tokens for sample in samples),
    }


@contextmanager
def answering(model: MetacogModel) -> Iterator[None]:
    """Put a model that is being trained into evaluation mode, and back when the block ends."""
    modules: list[nn.Module] = [model.base.model]
    modules += [] if model.reader is None else [model.reader.layer]
    modules += [] if model.gate is None else [model.gate]
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, was_training in modes:
            part.training = was_training


def _request(model: MetacogModel, number: int, puzzle: Puzzle) -> Request:
    prompt = render(model.base.tokenizer, [{"role": "user", "content": puzzle.text}])
    return request_for(model, tuple(prompt), request_id=number, temperature=0.0)


def _fits(base: Base, puzzle: Puzzle) -> bool:
    prompt = render(base.tokenizer, [{"role": "user", "content": puzzle.text}])
    return len(prompt) + len(base.tags.think_close) < base.context
