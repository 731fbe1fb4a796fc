from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.questions import Question
from metacog.data.tasks.splits import Split
from metacog.decode.collect import Rollout
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.decode.terms import NO_LIMIT
from metacog.model.bundle import MetacogModel, load_model
from metacog.records import Request
from metacog.text.render import render
from metacog.train.features import Features, question_key
from metacog.train.plans import _keep_best, plan_labels, with_plans
from metacog.train.rollouts import collect_features

SEED = 5
PLANS = ("verify", "decompose", "outline", "direct")
"""Longest first: what is tried first is seldom what is shortest."""

MakeRollout = Callable[..., Rollout]


@pytest.fixture(scope="module")
def nano() -> MetacogModel:
    """The bundled base, bare."""
    return MetacogModel(load_model("nano").base)


@pytest.fixture(scope="module")
def easy() -> list[Question]:
    """Questions of the two lowest levels, so that the base gets some of them right."""
    drawn = draw_questions(Split.LAYER_TRAIN, 18, seed=1, families=["count_bits", "aiw"])
    return [question for question in drawn if question.level < 2]


@pytest.fixture(scope="module")
def labels(nano: MetacogModel, easy: list[Question]) -> dict[int, int]:
    return plan_labels(nano, easy, PLANS, seed=SEED)


def opened(model: MetacogModel, questions: list[Question], plan: str) -> list[Request]:
    """Ask each question with THINK opened under a plan, without any layer's say."""
    tokenizer, found = model.base.tokenizer, []
    for index, question in enumerate(questions):
        prompt = render(tokenizer, [{"role": "user", "content": question.text}])
        mark = tokenizer.encode(f"<plan>{plan}</plan>\n", add_special_tokens=False)
        request = request_for(model, (*prompt, *mark), request_id=index, budget=NO_LIMIT, seed=SEED)
        found.append(replace(request, top_p=1.0, repetition_penalty=1.0))
    return found


def best_of(rollouts: list[Rollout]) -> dict[int, int]:
    """Return what is kept of rollouts that come plan by plan, each under a plan of its own."""
    best: dict[int, tuple[int, int]] = {}
    for plan, rollout in enumerate(rollouts):
        _keep_best(best, rollout, plan)
    return {key: -negated for key, (_, negated) in best.items()}


def test_labels_are_those_of_rolling_out_each_opened_prompt(
    nano: MetacogModel, easy: list[Question], labels: dict[int, int]
) -> None:
    tried: dict[int, list[tuple[int, int]]] = {}
    for index, plan in enumerate(PLANS):
        engine = Engine(nano, engine_settings(nano, revise=False))
        for reply in engine.generate(opened(nano, easy, plan)):
            question = easy[reply.request_id]
            if reply.finished and nano.base.decode(reply.answer).strip() == question.answer:
                spent = sum(step.segment in {"think", "answer"} for step in reply.steps)
                tried.setdefault(question_key(question), []).append((spent, -index))
    assert labels == {key: -min(right)[1] for key, right in tried.items()}
    assert set(labels.values()) <= set(range(4))
    assert set(labels.values()) - {0}, "no question is right for fewer tokens than with a check"


def test_a_label_counts_among_the_plans_that_were_named(
    nano: MetacogModel, easy: list[Question], labels: dict[int, int]
) -> None:
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int, left: float) -> None:
        assert left >= 0
        told.append((done, total))

    only = plan_labels(nano, easy, ["verify"], seed=SEED, progress=tell)
    assert set(only.values()) <= {0}
    assert only.keys() <= labels.keys()
    assert told == [(len(easy), len(easy))]


def test_right_for_the_fewest_tokens_wins(make_rollout: MakeRollout) -> None:
    long = make_rollout(0, think=(1,) * 9, answer=(5,))
    short = make_rollout(0, think=(1,) * 4, answer=(5, 6))
    wordy = make_rollout(0, think=(1,) * 3, answer=(5,) * 4)
    key = question_key(long.question)
    assert best_of([long, short, wordy]) == {key: 1}
    assert best_of([short, long]) == {key: 0}


def test_wrong_and_unfinished_rollouts_do_not_count(make_rollout: MakeRollout) -> None:
    wrong = make_rollout(0, think=(1,), correct=False)
    unfinished = make_rollout(0, think=(1,), finished=False)
    right = make_rollout(0, think=(1,) * 30)
    assert best_of([wrong, unfinished, right]) == {question_key(right.question): 2}
    assert best_of([wrong, unfinished]) == {}


def test_of_two_as_short_the_later_plan_wins(make_rollout: MakeRollout) -> None:
    long, one, other = (make_rollout(0, think=(n,) * size) for n, size in ((1, 9), (2, 3), (3, 3)))
    assert best_of([one, other, long]) == {question_key(one.question): 1}


def test_questions_are_told_apart(make_rollout: MakeRollout) -> None:
    first, second = make_rollout(0, think=(1,) * 9), make_rollout(1, think=(1,))
    keys = [question_key(rollout.question) for rollout in (first, second)]
    assert best_of([first, second]) == {keys[0]: 0, keys[1]: 1}


@pytest.fixture(scope="module")
def features(nano: MetacogModel, easy: list[Question]) -> Features:
    """Two rollouts of each question, in the order of their prompts' lengths."""
    return collect_features(nano, easy, seed=SEED, rollouts=2)


def test_rows_get_the_label_of_their_question_or_none(
    features: Features, easy: list[Question]
) -> None:
    first, second, *others = (question_key(question) for question in easy)
    labelled = with_plans(features, {first: 3, second: 0, 12345: 2})
    plans = dict.fromkeys(others, -1) | {first: 3, second: 0}
    assert labelled.plan.dtype == torch.long
    keys = features.question.tolist()
    assert labelled.plan.tolist() == [plans[key] for key in keys]
    assert sorted(labelled.plan.tolist())[-4:] == [0, 0, 3, 3]
    assert set(features.plan.tolist()) == {-1}, "what was given stays as it was"
    assert labelled.question is features.question
