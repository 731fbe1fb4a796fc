"""The official client against a real server: what it gets is what the engine writes."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
import uvicorn

from metacog.cli.reply import ask, reply_of
from metacog.model.bundle import MetacogModel
from metacog.serve.app import Service, build_app
from metacog.serve.run import engine_for

QUESTION = "What is 15 + 6?"
KEY = "a-key-for-tests"


@pytest.fixture(scope="module")
def url(tiny_model: MetacogModel) -> Iterator[str]:
    app = build_app(engine_for(tiny_model, 4), Service("tiny", queue=200, keys=(KEY,)))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def asked(client: openai.OpenAI, seed: int = 0, **extra: Any) -> Any:
    return client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": QUESTION}],
        seed=seed,
        extra_body={"metacog": True, **extra},
    )


@pytest.mark.parametrize("budget", [None, 0, 3, -1])
def test_a_reply_is_the_command_lines(
    client: openai.OpenAI, tiny_model: MetacogModel, budget: int | None
) -> None:
    said = asked(client, 7, thinking_token_budget="auto" if budget is None else budget)
    wanted = reply_of(ask(tiny_model, QUESTION, budget=budget, seed=7))
    choice = said.choices[0]
    assert choice.metacog["token_ids"] == [step.token for step in wanted.steps]
    assert choice.message.content == tiny_model.base.decode(wanted.answer).strip()
    assert choice.message.reasoning == tiny_model.base.decode(wanted.think, with_control=True)
    assert said.usage.completion_tokens_details.reasoning_tokens == wanted.budget.used
    assert choice.metacog["budget"]["enforced"] == wanted.budget.enforced
    assert choice.metacog["close_reason"] == wanted.budget.close_reason


def test_a_stream_says_what_a_whole_reply_says(client: openai.OpenAI) -> None:
    whole = asked(client, 3)
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": QUESTION}],
            seed=3,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].usage == whole.usage
    deltas: list[Any] = [chunk.choices[0].delta for chunk in chunks[:-1]]
    said = "".join(delta.content or "" for delta in deltas)
    thought = "".join(d.model_extra.get("reasoning", "") for d in deltas)
    assert (said, thought) == (whole.choices[0].message.content, whole.choices[0].message.reasoning)
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_many_mixed_requests_at_once_equal_those_alone(
    client: openai.OpenAI, tiny_model: MetacogModel
) -> None:
    mixed = [(seed, (None, 0, 5, -1)[seed % 4]) for seed in range(40)]

    def ids(one: tuple[int, int | None]) -> Any:
        budget = "auto" if one[1] is None else one[1]
        return asked(client, one[0], thinking_token_budget=budget).choices[0].metacog["token_ids"]

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ids, mixed))
    for (seed, budget), found in zip(mixed, together, strict=True):
        alone = reply_of(ask(tiny_model, QUESTION, budget=budget, seed=seed))
        assert found == [step.token for step in alone.steps]


@pytest.mark.parametrize(
    "extra",
    [
        {"thinking_token_budget": 10**6},
        {"thinking_token_budget": -2},
        {"thinking_token_budget": True},
        {"thinking_token_budget": 4, "thinking_budget": 5},
        {"n": 99},
        {"stop": ["x"] * 9},
        {"no_such_field": 1},
        {"messages": []},
    ],
)
def test_what_cannot_be_kept_is_refused(client: openai.OpenAI, extra: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        asked(client, **extra)
    assert refused.value.code == "invalid_value"


def test_every_route_but_health_wants_the_key(url: str) -> None:
    for path in ("/v1/models", "/v1/chat/completions", "/none"):
        for head in ({}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": KEY}):
            assert httpx.post(url + path, headers=head, json={}).status_code == 401
    assert httpx.get(f"{url}/health").status_code == 200
    assert httpx.get(f"{url}/ready").json()["ready"]


def test_effort_scales_the_predicted_budget(client: openai.OpenAI) -> None:
    spent = {
        effort: asked(client, reasoning_effort=effort).choices[0].metacog["budget"]
        for effort in ("none", "low", "medium", "high")
    }
    predicted = spent["medium"]["predicted"]
    assert spent["medium"]["enforced"] == predicted
    assert spent["low"]["enforced"] == max(1, round(predicted / 2))
    assert spent["none"]["enforced"] == 0
