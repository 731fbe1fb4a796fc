"""What a body comes to: the limits and the budget of its requests."""

from dataclasses import replace
from typing import Any

import pytest

from metacog.decode.engine import Engine
from metacog.decode.settings import request_for
from metacog.errors import InputError
from metacog.model.bundle import MetacogModel
from metacog.records import Request
from metacog.serve.asking import behind, chat_prompts, requests_for
from metacog.serve.run import engine_for
from metacog.serve.wire import ChatRequest
from tests.unit.serve.serving import QUESTION


@pytest.fixture(scope="module")
def engine(tiny_model: MetacogModel) -> Engine:
    return engine_for(tiny_model, 2)


def request(engine: Engine, **more: Any) -> Request:
    messages = [{"role": "user", "content": QUESTION}]
    asked = ChatRequest.model_validate({"model": "tiny", "messages": messages, **more})
    (found,) = requests_for(engine, asked, chat_prompts(engine, asked))
    return found


def test_without_a_limit_the_models_own_holds(engine: Engine) -> None:
    found = request(engine)
    own = request_for(engine.model, found.prompt)
    limits = found.max_new_tokens, found.max_answer_tokens
    assert limits == (own.max_new_tokens, own.max_answer_tokens)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("budget", [-1, 0, 20, "auto"])
def test_a_limit_that_was_named_is_the_replys_and_the_answers(
    engine: Engine, budget: int | str, name: str
) -> None:
    named = request(engine).max_new_tokens + 7
    found = request(engine, thinking_token_budget=budget, **{name: named})
    assert (found.max_new_tokens, found.max_answer_tokens) == (named, named)


def test_a_limit_that_was_named_ends_where_the_context_does(engine: Engine) -> None:
    found = request(engine, max_tokens=10**6)
    assert found.max_new_tokens == engine.context - len(found.prompt)


def test_a_short_limit_leaves_the_answer_its_own(engine: Engine) -> None:
    found = request(engine, max_tokens=behind(engine))
    assert found.max_new_tokens == behind(engine)
    assert found.max_answer_tokens == max(behind(engine), request(engine).max_answer_tokens)


@pytest.mark.parametrize(
    "off",
    [
        {"reasoning_effort": "none"},
        {"thinking": {"type": "disabled"}},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_thinking_that_is_off_stays_off_under_auto(engine: Engine, off: dict[str, Any]) -> None:
    assert request(engine, thinking_token_budget="auto", **off).budget == 0


def test_effort_is_refused_where_no_predicted_budget_holds(engine: Engine) -> None:
    opening = replace(engine.settings.opening, use_predicted_budget=False)
    fixed = Engine(engine.model, replace(engine.settings, opening=opening))
    with pytest.raises(InputError, match="use_predicted_budget: false"):
        request(fixed, reasoning_effort="low")
    assert request(fixed, reasoning_effort="none").budget == 0
    assert request(fixed).budget_scale == 1.0
