"""Makes questions, replies and rollouts by hand."""

from collections.abc import Callable

import pytest

from metacog.data.tasks.questions import Question, draw
from metacog.decode.collect import Rollout
from metacog.records import (
    BudgetReport,
    BudgetSource,
    CloseReason,
    Generation,
    Segment,
    Step,
)

MakeRollout = Callable[..., Rollout]


@pytest.fixture
def make_question() -> Callable[..., Question]:
    def make(index: int = 0, family: str = "gcd", level: int = 3) -> Question:
        question = draw(family, level, index)
        assert question is not None
        return question

    return make


@pytest.fixture
def make_rollout(make_question: Callable[..., Question]) -> MakeRollout:
    """Make a rollout of a question with given thinking and answer."""

    def make(
        question: int | Question = 0,
        *,
        think: tuple[int, ...] = (11, 12),
        answer: tuple[int, ...] = (21,),
        correct: bool = True,
        finished: bool = True,
        reason: CloseReason = CloseReason.NATURAL,
    ) -> Rollout:
        asked = make_question(question) if isinstance(question, int) else question
        parts = [(Segment.THINK, t) for t in think]
        parts += [(Segment.CLOSE, 1), *((Segment.ANSWER, a) for a in answer)]
        steps = tuple(
            Step(0, index, token, segment, sampled=True, altered=False, logprob=-1.0)
            for index, (segment, token) in enumerate(parts)
        )
        report = BudgetReport(-1, None, None, len(think), reason, BudgetSource.UNCAPPED)
        generation = Generation(
            request_id=0,
            prompt=(2, 3, 4),
            steps=steps,
            budget=report,
            reading=None,
            plan=None,
            gate=None,
            finished=finished,
        )
        return Rollout(asked, generation, correct)

    return make
