"""I4: whatever a model does inside THINK, its budget holds, THINK closes once, and an answer follows."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from metacog.decode.budget import BudgetController, ControllerSettings
from metacog.model.bundle import MetacogModel, load_model
from metacog.records import CloseReason, Generation, Request, Segment
from metacog.text.render import render
from metacog.text.segments import split_ids
from metacog.text.tags import THINK
from metacog.text.tokenizer import END
from tests.invariants.replies import answered, ids_of, settings
from tests.unit.decode.streams import DOUBLE, SINGLE, TRIPLE, Emitted, Terms, play

MAX_NEW, MAX_ANSWER, RESERVE = 30, 4, 5
MOST = MAX_NEW
"""A budget that is as long as the reply itself."""
ENGINE_RESERVE = settings().controller.answer_reserve
BUDGETS = (0, 1, 2, 7, MOST, -1)
TAGS = {"one id": SINGLE, "two ids": DOUBLE, "three ids that begin alike": TRIPLE}
WORDS = (7, 8, 6)


def stream(model_does: str, name: str) -> list[int]:
    """What a model offers token by token; the closer may be part of it anywhere."""
    tags = TAGS[name]
    opener, closer, end = list(tags.think_open), list(tags.think_close), [min(tags.eos)]
    parts = {
        "never closes": [7],
        "closes at once": [*closer, 7],
        "closes after three": [*WORDS, *closer, 8],
        "opens again and again": [*opener, 7],
        "closes and opens again": [7, *closer, 8, *opener, 7, *closer],
        "ends inside THINK": [7, *end],
        "ends and closes": [*end, *closer, *end],
        "breaks its closer off": [closer[0], 7, closer[0], closer[0], 8],
        "closes halfway": [7, *closer[:-1]],
    }[model_does]
    return (parts * 40)[:80]


BEHAVIOURS = (
    "never closes",
    "closes at once",
    "closes after three",
    "opens again and again",
    "closes and opens again",
    "ends inside THINK",
    "ends and closes",
    "breaks its closer off",
    "closes halfway",
)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", TAGS)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("opening", [(), (7, 8)], ids=["bare", "forced opening"])
def test_the_rule_holds(behaviour: str, name: str, budget: int, opening: tuple[int, ...]) -> None:
    tags, offered = TAGS[name], stream(behaviour, name)
    controller = BudgetController(
        tags,
        ControllerSettings(answer_reserve=RESERVE, debug=True),
        budget=budget,
        max_new_tokens=MAX_NEW,
        max_answer_tokens=MAX_ANSWER,
        opening=opening,
    )
    terms = Terms(budget, MAX_NEW, MAX_ANSWER, opening, offered, {})
    steps = play(controller, terms)
    # What of a closer came by itself was streamed as THINK before the closer was whole.
    before = [*tokens_of(steps, Segment.THINK), *tokens_of(steps, Segment.CLOSE)]
    answer, width = tokens_of(steps, Segment.ANSWER), len(tags.think_close)
    thought, room = before[:-width], MAX_NEW - width - RESERVE
    assert tuple(before[-width:]) == tags.think_close
    assert len(thought) <= (room if budget == -1 else min(budget, room))
    assert 1 <= len(answer) <= MAX_ANSWER
    assert [s.token for s in steps] == [*before, *answer], "THINK, the closer, the answer"
    assert len(steps) <= MAX_NEW
    assert not tags.eos & set(before)
    assert list(split_ids([*before, *answer], tags).think) == thought
    assert controller.used == len(thought)


def tokens_of(steps: list[Emitted], segment: Segment) -> list[int]:
    return [step.token for step in steps if step.segment is segment]


def urged(directory: Path, **leanings: float) -> MetacogModel:
    """The tiny base, leaning so strongly to some tokens that it says nothing else while it may."""
    model = load_model(directory)
    marks = {"opener": THINK.open, "closer": THINK.close, "end": END, "line": "\n"}
    with torch.no_grad():
        embedding = model.base.model.get_input_embeddings().weight
        states = model.base.model.base_model(torch.arange(len(embedding))[None]).last_hidden_state
        usual = nn.functional.normalize(states[0].mean(0), dim=0)
        for name, leaning in leanings.items():
            embedding[model.base.tokenizer.convert_tokens_to_ids(marks[name])] += leaning * usual
    return model


@pytest.mark.parametrize(
    ("leanings", "closes_itself"),
    [
        ({"closer": -9.0, "end": -9.0}, False),
        ({"opener": 9.0, "closer": -9.0}, False),
        ({"end": 9.0, "closer": -9.0}, True),
        ({"closer": 9.0}, True),
    ],
    ids=["never closes", "opens again", "ends inside THINK", "closes at once"],
)
@pytest.mark.parametrize("has_opener", [True, False], ids=["template opens", "opened for it"])
def test_the_engine_holds_it(
    tiny_directory: Path, leanings: dict[str, float], closes_itself: bool, has_opener: bool
) -> None:
    model = urged(tiny_directory, **leanings)
    tokenizer = model.base.tokenizer
    if not has_opener:
        tokenizer.chat_template = str(tokenizer.chat_template).replace(THINK.open, "")
    prompt = tuple(render(tokenizer, [{"role": "user", "content": "What is 3 + 4?"}]))
    requests = [
        Request(
            id=index,
            prompt=prompt,
            budget=budget,
            temperature=0.0,
            max_new_tokens=MAX_NEW,
            max_answer_tokens=MAX_ANSWER,
        )
        for index, budget in enumerate(BUDGETS)
    ]
    replies = answered(model, requests, settings(rows=4))
    for request in requests:
        holds(model, request, replies[request.id])
    some = {replies[r.id].budget.close_reason for r in requests if r.budget in {1, 2, 7}}
    assert (CloseReason.NATURAL in some) == closes_itself


def holds(model: MetacogModel, request: Request, reply: Generation) -> None:
    tags, ids = model.base.tags, ids_of(reply)
    parts = split_ids(ids, tags)
    room = MAX_NEW - len(tags.think_close) - ENGINE_RESERVE
    most = room if request.budget in {-1, None} else min(room, request.budget or 0)
    assert len(parts.think) <= most
    assert ids.count(tags.think_close[0]) == 1
    assert tags.think_open[0] not in ids
    assert not tags.eos & set(parts.think)
    assert 1 <= len(parts.answer) <= MAX_ANSWER
    assert len(ids) <= MAX_NEW
    assert reply.budget.used == len(parts.think) == len(reply.think)
    assert reply.spend == len(parts.think) + len(parts.answer)


def test_a_tag_that_comes_in_pieces_is_one_tag(tiny_directory: Path) -> None:
    """The budget cuts inside a closer of several ids: only its rest is forced, and it counts."""
    model = load_model(tiny_directory)
    two = model.base.encode("so 7")
    assert len(two) > 1
    tags = replace(model.base.tags, think_close=two)
    split = replace(model, base=replace(model.base, tags=tags))
    request = Request(
        0, render_of(model), temperature=0.0, max_new_tokens=MAX_NEW, max_answer_tokens=MAX_ANSWER
    )
    asked = [replace(request, id=n, budget=budget) for n, budget in enumerate(BUDGETS)]
    for reply in answered(split, asked, settings(rows=4)).values():
        before = [s.token for s in reply.steps if s.segment is not Segment.ANSWER]
        assert tuple(before[-len(two) :]) == two
        assert len(before) - len(two) == reply.budget.used
        wanted = asked[reply.request_id].budget
        assert wanted == -1 or reply.budget.used <= (wanted or 0)
        assert reply.answer


def render_of(model: MetacogModel) -> tuple[int, ...]:
    return tuple(render(model.base.tokenizer, [{"role": "user", "content": "What is 3 + 4?"}]))
