"""Questions of every family and level, drawn once, and a tokenizer for them."""

from collections.abc import Mapping, Sequence
from random import Random

import pytest

from metacog.data.tasks.families import FAMILIES, NUM_LEVELS
from metacog.data.tasks.questions import Question, draw
from metacog.data.tasks.traces import choose_plan, think
from metacog.text.tokenizer import Tokenizer, build_tokenizer

PER_LEVEL = 40

Drawn = Mapping[tuple[str, int], Sequence[Question | None]]


@pytest.fixture(scope="session")
def drawn() -> Drawn:
    """Return what comes for the same few items of every family and level, from two streams."""
    return {
        (family, level): [
            draw(family, level, index, stream=stream)
            for stream in (0, 5)
            for index in range(PER_LEVEL // 2)
        ]
        for family in FAMILIES
        for level in range(NUM_LEVELS)
    }


@pytest.fixture(scope="session")
def questions(drawn: Drawn) -> list[Question]:
    """Return every question that can be trusted."""
    return [question for items in drawn.values() for question in items if question is not None]


@pytest.fixture(scope="session")
def tokenizer(questions: list[Question]) -> Tokenizer:
    """Return a tokenizer that knows the words of the questions and their traces."""
    rng = Random(0)
    families = [[q.text for q in questions if q.family == family] for family in FAMILIES]
    traces = [
        piece.text
        for question in questions
        for piece in think(question.lines, choose_plan(question.lines, rng), rng)
    ]
    return build_tokenizer(families, traces)
