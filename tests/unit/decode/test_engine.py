"""The engine as its callers see it: what it yields, what it refuses, what its settings change."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metacog.decode.budget import ControllerSettings, Landing
from metacog.decode.engine import Engine, EngineSettings
from metacog.decode.sampling import gumbel
from metacog.errors import InputError
from metacog.model.bundle import MetacogModel
from metacog.records import Generation, Request, Segment, Step

Prompts = tuple[tuple[int, ...], ...]
SETTINGS = EngineSettings(rows=4, controller=ControllerSettings(answer_reserve=6, debug=True))


@pytest.fixture
def request_(tiny_prompts: Prompts) -> Request:
    return Request(3, tiny_prompts[0], budget=8, max_new_tokens=20, max_answer_tokens=5)


def reply(model: MetacogModel, request: Request, settings: EngineSettings = SETTINGS) -> Generation:
    return next(Engine(model, settings).generate([request]))


def ids(generation: Generation) -> list[int]:
    return [step.token for step in generation.steps]


@torch.no_grad()
def prompt_logits(model: MetacogModel, prompt: tuple[int, ...]) -> Tensor:
    lower = torch.ones(len(prompt), len(prompt), dtype=torch.bool).tril()[None, None]
    positions = torch.arange(len(prompt))[None]
    return model.base.logits(torch.tensor([prompt]), mask=lower, positions=positions)[0]


def test_nothing_asked_nothing_answered(tiny_model: MetacogModel) -> None:
    assert list(Engine(tiny_model).generate([])) == []
    assert list(Engine(tiny_model).stream([])) == []


def test_every_request_is_answered_once(tiny_model: MetacogModel, request_: Request) -> None:
    requests = [replace(request_, id=number, budget=number) for number in range(7)]
    replies = list(Engine(tiny_model, SETTINGS).generate(iter(requests)))
    assert sorted(r.request_id for r in replies) == list(range(7))
    assert all(r.prompt == request_.prompt for r in replies)


def test_short_replies_do_not_wait_for_long_ones(
    tiny_model: MetacogModel, request_: Request
) -> None:
    long = replace(request_, id=0, budget=13)
    short = [replace(request_, id=number, budget=0) for number in (1, 2, 3)]
    replies = list(Engine(tiny_model, SETTINGS).generate([long, *short]))
    assert replies[-1].request_id == 0


def test_what_may_take_longest_starts_first(tiny_model: MetacogModel, request_: Request) -> None:
    """By the named budget, else by the reply's limit; among equals the longer prompt goes first."""
    longer = (*request_.prompt[:3], *request_.prompt)
    requests = [
        replace(request_, id=0, budget=2),
        replace(request_, id=1, budget=9),
        replace(request_, id=2, budget=None),
        replace(request_, id=3, budget=-1, max_new_tokens=21),
        replace(request_, id=4, budget=9, prompt=longer),
    ]
    events = Engine(tiny_model, replace(SETTINGS, rows=1)).stream(requests)
    started = [event.request_id for event in events if isinstance(event, Step) and not event.index]
    assert started == [3, 2, 4, 1, 0]


def test_a_stream_ends_each_reply_with_its_generation(
    tiny_model: MetacogModel, request_: Request
) -> None:
    events = list(Engine(tiny_model, SETTINGS).stream([request_]))
    *steps, last = events
    assert isinstance(last, Generation)
    assert all(isinstance(step, Step) for step in steps)
    bare = [replace(step, rereading=None) for step in last.steps]
    assert steps == bare, "a token is streamed before the layer reads again after it"
    assert last == reply(tiny_model, request_)


def test_the_first_token_is_the_best_perturbed_one(
    tiny_model: MetacogModel, request_: Request
) -> None:
    logits = prompt_logits(tiny_model, request_.prompt)
    for number in range(6):
        asked = replace(request_, id=number, seed=9, temperature=0.7)
        noise = gumbel(*(torch.tensor([n]) for n in (9, number, 0)), len(logits))[0]
        first = reply(tiny_model, asked).steps[0]
        if not first.altered:
            assert first.token == int((logits / 0.7 + noise).argmax())
            expected = logits.log_softmax(-1)[first.token].item()
            assert first.logprob == pytest.approx(expected, abs=1e-4)


def test_greedy_does_not_look_at_the_seed(tiny_model: MetacogModel, request_: Request) -> None:
    greedy = [replace(request_, temperature=0.0, seed=seed, id=seed) for seed in (1, 2)]
    assert ids(reply(tiny_model, greedy[0])) == ids(reply(tiny_model, greedy[1]))


def test_a_small_nucleus_is_greedy(tiny_model: MetacogModel, request_: Request) -> None:
    narrow = replace(request_, top_p=1e-6)
    assert ids(reply(tiny_model, narrow)) == ids(
        reply(tiny_model, replace(request_, temperature=0.0))
    )


def test_a_repetition_penalty_makes_a_loop_less_likely(
    tiny_model: MetacogModel, tiny_prompts: Prompts
) -> None:
    """Greedy replies of a random base repeat themselves; under a strong penalty hardly."""
    asked = [
        Request(n, prompt, budget=-1, temperature=0.0, max_new_tokens=40, max_answer_tokens=5)
        for n, prompt in enumerate(tiny_prompts)
    ]
    plain = [reply(tiny_model, request) for request in asked]
    held = [reply(tiny_model, replace(r, repetition_penalty=50.0)) for r in asked]
    assert sum(len(set(ids(r))) for r in held) > sum(len(set(ids(r))) for r in plain)


def test_a_plan_that_is_asked_for_is_followed(tiny_model: MetacogModel, request_: Request) -> None:
    assert reply(tiny_model, replace(request_, plan="verify")).plan == "verify"
    free = reply(tiny_model, request_)
    assert free.reading is not None
    assert free.plan == free.reading.chosen_plan


def test_a_mark_is_forced_and_counted_as_thinking(
    tiny_model: MetacogModel, request_: Request
) -> None:
    mark = tiny_model.base.encode("so 7\n")
    opening = replace(SETTINGS.opening, inject_plan=True, plan_marks={"verify": mark})
    marked = reply(tiny_model, replace(request_, plan="verify"), replace(SETTINGS, opening=opening))
    assert marked.think[: len(mark)] == mark
    assert not any(step.sampled for step in marked.steps[: len(mark)])
    assert marked.budget.used <= 8


def test_the_wrap_up_text_ends_at_the_cap(tiny_model: MetacogModel, request_: Request) -> None:
    text = tiny_model.base.encode("so 7")
    landing = replace(SETTINGS.controller, landing=Landing(4, 0.0, text))
    asked = [replace(request_, id=number) for number in range(6)]
    replies = [reply(tiny_model, r, replace(SETTINGS, controller=landing)) for r in asked]
    capped = [r for r in replies if r.budget.used == 8]
    assert capped
    assert all(r.think[-len(text) :] == text for r in capped)


def test_the_gate_may_be_left_out(tiny_model: MetacogModel, request_: Request) -> None:
    without = replace(tiny_model, gate=None)
    off = reply(tiny_model, request_, replace(SETTINGS, gate=False))
    assert off.steps == reply(without, request_).steps
    assert off.gate is None
    many = [replace(request_, id=number) for number in range(8)]
    changed = [ids(reply(tiny_model, r)) != ids(reply(without, r)) for r in many]
    assert any(changed)


def test_telemetry_keeps_blocks_and_tokens(tiny_model: MetacogModel, request_: Request) -> None:
    full = reply(
        tiny_model,
        request_,
        replace(SETTINGS, telemetry=True, opening=replace(SETTINGS.opening, telemetry=True)),
    )
    assert full.reading is not None
    assert full.gate is not None
    assert len(full.reading.per_layer) == 3
    assert len(full.gate.per_token) == full.budget.used
    spare = reply(tiny_model, request_)
    assert spare.reading is not None
    assert spare.gate is not None
    assert (spare.reading.per_layer, spare.gate.per_token) == ((), ())
    assert spare.steps == full.steps
    assert spare.gate.coverage == full.gate.coverage


def test_spend_leaves_the_closer_out(tiny_model: MetacogModel, request_: Request) -> None:
    answered = reply(tiny_model, request_)
    closers = [step for step in answered.steps if step.segment is Segment.CLOSE]
    assert len(closers) == 1
    assert answered.spend == len(answered.steps) - 1


def test_an_empty_prompt_is_refused(tiny_model: MetacogModel) -> None:
    with pytest.raises(InputError, match="at least one token"):
        next(Engine(tiny_model).generate([Request(0, ())]))


def test_more_than_the_context_is_refused(tiny_model: MetacogModel, request_: Request) -> None:
    fits = replace(request_, max_new_tokens=1024 - len(request_.prompt))
    assert reply(tiny_model, replace(fits, budget=0)).finished in (True, False)
    with pytest.raises(InputError, match=r"hold 1024 tokens together.*lower max_new_tokens"):
        reply(tiny_model, replace(fits, max_new_tokens=fits.max_new_tokens + 1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budget": -2}, "budget of 0 or more thinking tokens"),
        ({"max_new_tokens": 1}, "max_new_tokens of at least 2"),
        ({"max_answer_tokens": 0}, "max_answer_tokens of at least 1"),
        ({"plan": "guess"}, "got 'guess'"),
        ({"temperature": -1.0}, r"temperature of 0 or more.*got -1\.0 and 1\.0"),
        ({"temperature": float("nan")}, "temperature of 0 or more"),
        ({"top_p": 0.0}, r"top_p above 0 and at most 1.*got 1\.0 and 0\.0"),
        ({"top_p": 1.5}, "top_p above 0 and at most 1"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_token(
    tiny_model: MetacogModel, request_: Request, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        next(Engine(tiny_model, SETTINGS).stream([*[request_] * 5, replace(request_, **wrong)]))
