"""Several short replies and a vote, for the spend of one.

Wang et al. 2023, "Self-consistency improves chain of thought reasoning in language models".
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metacog.data.tasks.questions import Question, score
from metacog.decode.collect import said
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for, unmodulated
from metacog.eval.arms import whole_cap
from metacog.eval.baselines import constant
from metacog.eval.evidence import Evidence
from metacog.eval.runner import request_id
from metacog.model.bundle import MetacogModel
from metacog.text.render import render

VOTES = 3


@dataclass(frozen=True)
class Voted:
    """What a vote came to, over questions."""

    accuracy: float
    spend: float
    """THINK and ANSWER tokens of all votes of a question."""


def majority(answers: Sequence[str]) -> str:
    """Return the most frequent answer, the first given of equals; an empty one never beats another."""
    counts = Counter(answer for answer in answers if answer)
    return max(counts, key=lambda answer: counts[answer]) if counts else ""


def cap_for(replies: Evidence, spend: float, *, votes: int = VOTES) -> float:
    """Return the cap at which so many replies spend a number of THINK and ANSWER tokens together."""
    return constant.cap_for(replies, max(0.0, spend / votes - float(replies.answer_tokens.mean())))


def run(
    bare: MetacogModel,
    questions: Sequence[Question],
    cap: float,
    *,
    votes: int = VOTES,
    rows: int = 128,
) -> Voted:
    """Answer each question several times under a cap, each with a sampling seed of its own, and vote."""
    asked: Mapping[int, Question] = {request_id(question): question for question in questions}
    answers: dict[int, list[str]] = {number: [] for number in asked}
    spend = 0
    engine = Engine(bare, unmodulated(engine_settings(bare, rows=rows, revise=False, reread=False)))
    for seed in range(votes):
        requests = [
            replace(
                request_for(
                    bare,
                    tuple(render(bare.base.tokenizer, [{"role": "user", "content": q.text}])),
                    request_id=number,
                    budget=whole_cap(cap, (q.id, seed)),
                    seed=seed,
                ),
                top_p=1.0,
                repetition_penalty=1.0,
            )
            for number, q in asked.items()
        ]
        for reply in engine.generate(requests):
            answers[reply.request_id].append(said(reply, bare.base).strip())
            spend += reply.spend
    right = [score(asked[number], majority(found)) for number, found in answers.items()]
    return Voted(float(np.mean(right)), spend / len(asked))
