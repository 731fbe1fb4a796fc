"""Draws questions of a family and level from reasoning-gym, each with a solver's lines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import reasoning_gym

from metacog.data.tasks.families import FAMILIES, NUM_LEVELS
from metacog.data.tasks.solvers import SOLVERS
from metacog.data.tasks.splits import Split, question_hash, split_of

_STRIDE = 10_000_000
"""Distance between the seeds of two streams: item i of a stream is drawn from seed + i."""


@dataclass(frozen=True)
class Question:
    """A verifiable question with the work that leads to its answer."""

    family: str
    level: int
    text: str
    answer: str
    lines: tuple[str, ...]
    entry: dict[str, Any]

    @property
    def id(self) -> str:
        """The hash of the normalised text."""
        return question_hash(self.text)


@cache
def _dataset(family: str, level: int, stream: int) -> Any:
    settings = FAMILIES[family].levels[level]
    seed = (stream * NUM_LEVELS + level) * _STRIDE
    return reasoning_gym.create_dataset(family, size=_STRIDE, seed=seed, **settings)


def draw(family: str, level: int, index: int, *, stream: int = 0) -> Question | None:
    """Return item `index` of a family's level, or None where its answer can't be trusted.

    A question whose label our solver doesn't reach is left out, as is one with an empty answer.
    """
    entry = _dataset(family, level, stream)[index]
    answer, lines = str(entry["answer"]), SOLVERS[family](entry)
    if lines[-1] != answer or not answer:
        return None
    return Question(family, level, entry["question"].strip(), answer, tuple(lines), entry)


def stream_questions(
    split: Split,
    *,
    seed: int,
    families: Sequence[str] = tuple(FAMILIES),
    level_weights: Sequence[float] = (1.0,) * NUM_LEVELS,
    stream: int = 0,
) -> Iterator[Question]:
    """Yield questions of one split for ever, families and levels at random."""
    rng = Random(seed)
    while True:
        family = rng.choice(families)
        level = rng.choices(range(NUM_LEVELS), level_weights)[0]
        question = draw(family, level, rng.randrange(_STRIDE), stream=stream)
        if question is not None and split_of(question.text) is split:
            yield question


def score(question: Question, reply: str) -> bool:
    """Return whether a reply's answer is right, as reasoning-gym scores it.

    Some of its scorers raise on a reply they can't read: such a reply is wrong.
    """
    scorer = reasoning_gym.get_score_answer_fn(question.family)
    try:
        return bool(scorer(answer=reply.strip(), entry=question.entry) == 1.0)
    except (ValueError, ArithmeticError, LookupError):
        return False
