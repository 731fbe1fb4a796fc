"""T14: a trace is cut in training at the very token where the controller would cut it in serving."""

from random import Random

import pytest

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.decode.budget import BudgetController
from metacog.model.base import Base
from metacog.model.bundle import load_model
from metacog.records import CloseReason, Generation, Segment
from metacog.train.given import cut_at, given_trace

TRACES = 1000

Cut = list[tuple[int, Segment, bool]]
"""Token, segment, and whether it was forced, up to the end of the closer."""


@pytest.fixture(scope="module")
def base() -> Base:
    return load_model("nano").base


def served(base: Base, reply: Generation, budget: int) -> Cut:
    """Let the controller rule over a model that would write this trace."""
    controller = BudgetController(
        base.tags, budget=budget, max_new_tokens=4096, max_answer_tokens=64
    )
    offered = iter(step.token for step in reply.steps)
    found: Cut = []
    while controller.segment in {Segment.THINK, Segment.CLOSE}:
        forced = controller.decide().forced
        token = next(offered) if forced is None else forced
        token, _ = controller.resolve(token)
        found.append((token, controller.observe(token), forced is not None))
    return found


def trained(reply: Generation, budget: int) -> Cut:
    """Cut the trace as training does; a slip of the trace is no forced token."""
    kept = cut_at(reply, budget)
    was_cut = kept.budget.close_reason is CloseReason.BUDGET
    return [
        (step.token, step.segment, was_cut and step.segment is Segment.CLOSE)
        for step in kept.steps
        if step.segment in {Segment.THINK, Segment.CLOSE}
    ]


def test_training_and_serving_keep_the_same_tokens_and_close_at_the_same_place(base: Base) -> None:
    rng, forced = Random(14), 0
    for question in draw_questions(Split.LAYER_TRAIN, TRACES):
        reply = given_trace(base, question, rng).reply
        budget = rng.randint(1, reply.budget.used + 8)
        wanted = served(base, reply, budget)
        assert [s for _, s, _ in wanted].count(Segment.CLOSE) == len(base.tags.think_close)
        got = trained(reply, budget)
        assert [token for token, _, _ in got] == [token for token, _, _ in wanted]
        assert got == wanted
        forced += wanted[-1][2]
    assert 0.5 * TRACES < forced < TRACES, "budgets lie on both sides of the natural end"
