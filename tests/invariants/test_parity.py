"""Invariant 9: train, eval and serve render the same prompt and cut the same trace."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from metacog.cli.reply import ask, reply_of
from metacog.data.tasks.corpus import Corpus, CorpusMix
from metacog.data.tasks.families import FAMILIES, NUM_LEVELS
from metacog.data.tasks.questions import Question, draw
from metacog.data.tasks.splits import Split
from metacog.decode.collect import Rollout, trace_of
from metacog.decode.engine import Engine
from metacog.decode.rereading import RereadSettings
from metacog.eval.setup import setup_of
from metacog.model.bundle import MetacogModel
from metacog.records import CloseReason, Generation, Request, Segment
from metacog.text.render import render
from metacog.train.rollouts import rollout_waves
from tests.contracts.source import dotted, package_modules
from tests.invariants.replies import SHORT, Prompts, answered, ids_of, settings

MIX = CorpusMix(
    family_weights=dict.fromkeys(FAMILIES, 1.0),
    level_weights=(1.0,) * NUM_LEVELS,
    cut_share=0.5,
    cut_at_line_share=0.5,
    direct_families=None,
    cut_answer_weight=3.0,
)
UNREVISED = settings(rows=30, reread=RereadSettings(revise=False))


def drawn(families: list[str]) -> Iterator[Question]:
    for family in families:
        yield next(q for q in (draw(family, 0, index) for index in range(20)) if q is not None)


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return list(drawn([f for f in FAMILIES if f != "prime_factorization"][:4]))


@pytest.fixture(scope="module")
def model(tiny_model: MetacogModel) -> MetacogModel:
    return replace(tiny_model, decoding=SHORT)


@pytest.fixture(scope="module")
def prompts(model: MetacogModel, questions: list[Question]) -> list[tuple[int, ...]]:
    tokenizer = model.base.tokenizer
    return [tuple(render(tokenizer, [{"role": "user", "content": q.text}])) for q in questions]


def test_corpus_rows_begin_with_the_prompt(
    model: MetacogModel, questions: list[Question], prompts: list[tuple[int, ...]]
) -> None:
    corpus = Corpus(model.base.tokenizer, MIX, split=Split.BASE_TRAIN, seed=0)
    rng = Random(0)
    for question, prompt in zip(questions, prompts, strict=True):
        row = corpus.row(question, rng)
        assert tuple(row.ids[: len(prompt)]) == prompt
        assert not any(row.weights[: len(prompt)])
        assert row.ids[len(prompt) :].count(model.base.tags.think_close[0]) == 1


def test_rollouts_ask_the_prompt(
    model: MetacogModel, questions: list[Question], prompts: list[tuple[int, ...]]
) -> None:
    (wave,) = rollout_waves(model, questions, seed=0, rows=4)
    found = {rollout.question.id: rollout.generation.prompt for rollout in wave}
    assert found == {q.id: prompt for q, prompt in zip(questions, prompts, strict=True)}


def test_the_command_line_asks_the_prompt(
    model: MetacogModel, questions: list[Question], prompts: list[tuple[int, ...]]
) -> None:
    for question, prompt in zip(questions, prompts, strict=True):
        assert reply_of(ask(model, question.text, budget=0)).prompt == prompt


def test_evaluation_asks_the_prompt(
    model: MetacogModel, questions: list[Question], prompts: list[tuple[int, ...]]
) -> None:
    setup = setup_of(model)
    assert [tuple(setup.render(question)) for question in questions] == prompts


def test_templates_are_rendered_in_one_place() -> None:
    renders = ("apply_chat_template", "render_jinja_template")
    places = {
        module.name
        for module in package_modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and dotted(node.func).endswith(renders)
    }
    assert places == {"text/template_child.py"}


@pytest.fixture(scope="module")
def long_thought(tiny_model: MetacogModel, tiny_prompts: Prompts) -> tuple[Request, Generation]:
    """A request with its reply, which thinks for a while and closes by itself."""
    requests = [
        Request(index, prompt, budget=-1, seed=3, max_new_tokens=60, max_answer_tokens=6)
        for index, prompt in enumerate(tiny_prompts * 6)
    ]
    replies = answered(tiny_model, requests, UNREVISED)
    closed = [r for r in replies.values() if r.budget.close_reason is CloseReason.NATURAL]
    reply = max(closed, key=lambda r: r.budget.used)
    assert reply.budget.used > 5
    return next(r for r in requests if r.id == reply.request_id), reply


@pytest.mark.parametrize("budget", [0, 1, 2, 3, 5])
def test_a_budget_keeps_the_first_tokens(
    tiny_model: MetacogModel, long_thought: tuple[Request, Generation], budget: int
) -> None:
    request, uncapped = long_thought
    capped = answered(tiny_model, [replace(request, budget=budget)], UNREVISED)[request.id]
    assert capped.think == uncapped.think[:budget]
    assert [s.segment for s in capped.steps[: budget + 1]] == [
        *[Segment.THINK] * budget,
        Segment.CLOSE,
    ]
    assert capped.reading is not None
    assert uncapped.reading is not None
    assert capped.reading.budget == uncapped.reading.budget


def test_a_budget_of_all_it_needs_changes_nothing(
    tiny_model: MetacogModel, long_thought: tuple[Request, Generation]
) -> None:
    request, uncapped = long_thought
    more = replace(request, budget=uncapped.budget.used + 1)
    reply = answered(tiny_model, [more], UNREVISED)[request.id]
    assert ids_of(reply) == ids_of(uncapped)
    assert reply.budget.close_reason is CloseReason.NATURAL


def test_training_cuts_where_the_controller_does(
    tiny_model: MetacogModel,
    long_thought: tuple[Request, Generation],
    questions: list[Question],
) -> None:
    """A trace's cut after n tokens is what a budget of n leaves."""
    request, uncapped = long_thought
    trace = trace_of(
        Rollout(questions[0], uncapped, correct=False), tiny_model.base, every_token=True
    )
    assert trace.cuts == tuple(range(uncapped.budget.used + 1))
    requests = [replace(request, budget=cut) for cut in trace.cuts]
    capped = {r.budget.enforced: r.think for r in Engine(tiny_model, UNREVISED).generate(requests)}
    assert capped == {cut: trace.think[:cut] for cut in trace.cuts}
