"""What OpenAI's clients write as a matter of course is understood, and what they hear back is in its shape."""

import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from fastapi.responses import StreamingResponse

from metacog.model.bundle import MetacogModel
from metacog.serve.app import Service, build_app
from metacog.serve.run import engine_for
from tests.unit.serve.serving import KEY, QUESTION, body, configured, running, served

HEAD = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
PATH = "/v1/chat/completions"
CANARY = "zebra-4711"


@pytest.fixture(scope="module")
def url(tiny_model: MetacogModel) -> Iterator[str]:
    config = configured(log_prompts=True, batch={"rows": 2, "queue": 1})
    with served(tiny_model, config) as found:
        yield found


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def posted(url: str, asked: Any) -> httpx.Response:
    return httpx.post(url + PATH, headers=HEAD, content=json.dumps(asked), timeout=60)


def prompt_tokens(url: str, messages: list[dict[str, Any]]) -> int:
    found = posted(url, body(thinking_token_budget=0, messages=messages))
    assert found.status_code == 200, found.text
    return int(found.json()["usage"]["prompt_tokens"])


def test_a_reply_may_come_back_as_it_is(client: openai.OpenAI, url: str) -> None:
    first = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": QUESTION}]
    )
    said = first.choices[0].message
    asked = {"role": "user", "content": QUESTION}
    turns: list[Any] = [asked, said, {"role": "user", "content": "And 2 more?"}]
    again = client.chat.completions.create(model="tiny", messages=turns)
    plain = [turns[0], {"role": "assistant", "content": said.content}, turns[2]]
    whole = [turns[0], said.model_dump(), turns[2]]
    assert again.usage is not None
    assert "reasoning" in whole[1]
    assert whole[1]["tool_calls"] is None
    assert prompt_tokens(url, plain) == prompt_tokens(url, whole) == again.usage.prompt_tokens


def test_parts_of_text_are_one_text(url: str) -> None:
    parts = [{"type": "text", "text": text} for text in ("What is", "15 + 6?")]
    told = [[{"role": "user", "content": it}] for it in (parts, "What is\n15 + 6?")]
    assert prompt_tokens(url, told[0]) == prompt_tokens(url, told[1])


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "user", "content": [{"type": "text", "text": 3}]},
        {"role": "user", "content": []},
        {"role": "user", "content": QUESTION, "reasoning": "hm"},
        {"role": "assistant", "content": QUESTION, "tool_calls": [{"id": "1"}]},
    ],
)
def test_what_is_no_text_is_refused(url: str, message: dict[str, Any]) -> None:
    found = posted(url, body(messages=[message]))
    assert (found.status_code, found.json()["error"]["code"]) == (400, "invalid_value")


def test_null_is_what_is_not_named(url: str) -> None:
    names = ("n", "seed", "stream", "stop", "logit_bias", "max_tokens", "stream_options", "metacog")
    found = posted(url, body() | dict.fromkeys(names))
    plain = posted(url, {"model": "tiny", "messages": body()["messages"]})
    assert found.status_code == 200, found.text
    assert found.json()["choices"] == plain.json()["choices"]


def test_the_model_is_found_under_its_name(client: openai.OpenAI) -> None:
    assert client.models.retrieve("tiny") == client.models.list().data[0]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_an_answer_may_be_as_long_as_was_asked(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": QUESTION}],
        temperature=100,
        n=3,
        max_tokens=250,
        extra_body={"thinking": {"type": "disabled"}, "metacog": True},
    )
    written: list[Any] = [choice.model_dump()["metacog"]["token_ids"] for choice in said.choices]
    ended = [choice.finish_reason for choice in said.choices]
    assert [len(ids) == 250 for ids in written] == [why == "length" for why in ended]
    assert max(map(len, written)) > 100


def test_more_choices_than_ever_fit_are_refused_for_good(url: str) -> None:
    found = posted(url, body(n=4))
    assert (found.status_code, found.json()["error"]["code"]) == (400, "invalid_value")
    assert posted(url, body(n=3, thinking_token_budget=0)).status_code == 200


def test_half_of_a_surrogate_pair_is_refused_and_logged(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "metacog.serve"):
        found = posted(url, body(messages=[{"role": "user", "content": "15 \ud800 é"}]))
    assert (found.status_code, found.json()["error"]["code"]) == (400, "invalid_value")
    assert "15 \\ud800 é" in caplog.text


def broken_app(model: MetacogModel) -> Any:
    """Return the application with two routes that fail, before and after a reply has begun."""
    app = build_app(engine_for(model, 1), Service("tiny", configured()))

    async def some() -> AsyncIterator[str]:
        yield "a beginning"
        raise RuntimeError(CANARY)

    @app.get("/early")
    async def early() -> None:
        raise RuntimeError(CANARY)

    @app.get("/late")
    async def late() -> StreamingResponse:
        return StreamingResponse(some())

    return app


def test_an_error_nobody_thought_of_is_told_and_logged_by_its_place_alone(
    tiny_model: MetacogModel, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO),
        running(broken_app(tiny_model), configured()) as url,
        httpx.Client(base_url=url, headers=HEAD) as client,
    ):
        early = client.get("/early")
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/late")
        figures = client.get("/metrics").text
    assert early.status_code == 500
    assert early.json()["error"].keys() == {"message", "type", "param", "code"}
    assert early.json()["error"]["type"] == "server_error"
    for route in ("/early", "/late"):
        assert f'metacog_requests_total{{route="{route}",status="500"}}' in figures
    assert "RuntimeError at broken_app.<locals>.early" in caplog.text
    assert "RuntimeError at broken_app.<locals>.some" in caplog.text
    assert "Traceback" not in caplog.text
    assert CANARY not in caplog.text + early.text
