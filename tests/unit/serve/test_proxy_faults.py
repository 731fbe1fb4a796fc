"""What an engine does wrong is named, whole or streamed, and nobody waits for what will not come."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message
from tokenizers.normalizers import Prepend

from metacog.model.bundle import MetacogModel
from metacog.serve.engines import Connection, Order, Piece, Written
from metacog.serve.proxy import Planner, Proxy, build_proxy
from metacog.serve.run import engine_for
from tests.conftest import MakeModel
from tests.unit.serve.other_engines import Double, chats, lines, texts, vllm
from tests.unit.serve.proxying import HEAD, Asking, proxied
from tests.unit.serve.serving import KEY, body, configured

BAD_CHUNKS = (
    '{"choices":[{"delta":"x","text":5}]}',
    '{"choices":[{"delta":{"content":5},"text":5}]}',
    '{"choices":{"a":1}}',
    '{"choices":["x"]}',
    "null",
    "5",
    "no",
)


def last_event(reply: httpx.Response) -> dict[str, Any]:
    assert reply.status_code == 200
    events = [line[6:] for line in reply.text.split("\n\n") if line]
    found: dict[str, Any] = json.loads(events[-1])
    return found


def idle(asked: Asking) -> bool:
    return "metacog_running 0.0" in asked.get("/metrics").text


@pytest.mark.parametrize("name", ["two-calls", "llama.cpp", "vllm"])
def test_chunks_of_another_kind_are_named(tiny_model: MetacogModel, name: str) -> None:
    double = Double()
    with proxied(tiny_model, name, lines(double)) as asked:
        for chunk in BAD_CHUNKS:
            double.says = [chunk]
            whole, stream = asked(thinking_token_budget=3), asked(stream=True)
            assert whole.status_code == 502
            error = whole.json()["error"]
            assert "chunks of a completion" in error["message"]
            assert error["code"] == last_event(stream)["error"]["code"] == "engine_unreachable"
        assert idle(asked)


def test_a_token_that_is_none_is_named(tiny_model: MetacogModel) -> None:
    double = Double(says=['{"choices":[{"token_ids":[-1]}]}'])
    with proxied(tiny_model, "vllm", lines(double)) as asked:
        assert asked().status_code == 502


class Failing:
    """An engine with an error of its own."""

    name = "failing"

    async def reply(self, order: Order, written: Written) -> AsyncIterator[Piece]:
        """Begin, and fail."""
        yield "so", ""
        raise ZeroDivisionError(f"a secret of {order.request.id}, {written.think}")


@pytest.mark.parametrize("choices", [1, 3])
def test_an_error_that_nobody_expected_ends_a_stream(
    tiny_model: MetacogModel, choices: int, caplog: pytest.LogCaptureFixture
) -> None:
    with proxied(tiny_model, Failing()) as asked:
        error = last_event(asked(stream=True, n=choices))["error"]
        assert idle(asked)
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "ZeroDivisionError at Failing.reply" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("name", ["two-calls", "llama.cpp"])
def test_parts_of_words_are_put_together_as_they_came(
    make_tiny_model: MakeModel, name: str
) -> None:
    model = make_tiny_model()
    model.base.tokenizer.backend_tokenizer.normalizer = Prepend(" ")
    assert model.base.decode(model.base.encode("wer")) == " wer"
    parts = ["the", " ans", "wer", " is", " 21", " and on"]
    double, app = Double(), texts
    double.says = [(["so"], "stop"), (parts, "stop")]
    if name == "llama.cpp":
        double.says, app = [[{"content": part} for part in parts]], chats
    with proxied(model, name, app(double)) as asked:
        said = asked(stop=" and").json()
    choice, usage = said["choices"][0], said["usage"]
    assert choice["message"]["content"] == "the answer is 21"
    assert choice["finish_reason"] == "stop"
    closer = len(model.base.tags.think_close) if name == "two-calls" else 0
    thought = usage["completion_tokens_details"]["reasoning_tokens"]
    written = len(model.base.encode("".join(parts)))
    assert usage["completion_tokens"] == thought + closer + written


def test_text_without_the_ids_that_were_asked_for_is_no_reply(tiny_model: MetacogModel) -> None:
    double = Double(says=['{"choices":[{"text":"hello there","finish_reason":"stop"}]}'])
    with proxied(tiny_model, "vllm", lines(double)) as asked:
        found = asked(thinking_token_budget=3)
    assert found.status_code == 502
    assert "return_token_ids" in found.json()["error"]["message"]


def injecting(model: MetacogModel) -> MetacogModel:
    plan = model.decoding.plan.model_copy(update={"inject": True})
    return replace(model, decoding=model.decoding.model_copy(update={"plan": plan}))


@pytest.mark.parametrize("name", ["two-calls", "vllm"])
def test_marks_are_written_where_they_fit(tiny_model: MetacogModel, name: str) -> None:
    model = injecting(tiny_model)
    marks = engine_for(model, 1, 512).settings.opening.plan_marks["verify"]
    budgets = (0, 1, len(marks) - 1, len(marks), len(marks) + 3, -1)
    for budget in budgets:
        double = Double(says=[(["7"], "length"), (["21"], "stop")])
        if budget in (0, len(marks)):
            double.says.pop(0)
        app = texts(double) if name == "two-calls" else vllm(double, tiny_model)
        with proxied(model, name, app) as asked:
            choice = asked(plan="verify", thinking_token_budget=budget).json()["choices"][0]
        told = choice["metacog"]
        fits = budget == -1 or budget >= len(marks)
        mark = model.base.decode(marks, with_control=True)
        assert choice["message"]["reasoning"].startswith(mark) == fits
        assert told["budget"]["kept"] is True
        assert (told["close_reason"] == "disabled") == (budget == 0)
        if budget == len(marks):
            assert told["close_reason"] == "budget"
            assert told["budget"]["used"] == budget


class Slow:
    """An engine that takes its time."""

    name = "slow"

    async def reply(self, order: Order, written: Written) -> AsyncIterator[Piece]:
        """Answer after a while."""
        await asyncio.sleep(1.0)
        written.tokens = order.request.id + 1
        yield "", "21"


@pytest.mark.parametrize("stream", [False, True])
def test_no_more_replies_than_places_in_a_burst(tiny_model: MetacogModel, stream: bool) -> None:
    batch = {"rows": 2, "queue": 1}
    with proxied(tiny_model, Slow(), batch=batch) as asked, ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda _: asked(stream=stream).status_code, range(12)))
        assert sorted(found) == [200] * 3 + [429] * 9
        assert idle(asked)
        pairs = list(pool.map(lambda _: asked(n=2, stream=stream).status_code, range(2)))
        assert sorted(pairs) == [200, 429]
        more = asked(n=4, stream=stream)
        prompts = {"model": "tiny", "prompt": ["2", "3"], "n": 2}
        many = asked.client.post("/v1/completions", json=prompts)
        assert (more.status_code, many.status_code) == (400, 400)
        assert "at most 3 replies" in more.json()["error"]["message"]
        assert asked(n=3, stream=stream).status_code == 200
        assert idle(asked)


def test_who_hangs_up_leaves_the_place(tiny_model: MetacogModel) -> None:
    with proxied(tiny_model, Slow(), batch={"rows": 1, "queue": 0}) as asked:
        url, said = asked.client.base_url, json.dumps(body(stream=True)).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(said)}\r\n"
        head += f"Content-Type: application/json\r\nAuthorization: Bearer {KEY}\r\n\r\n"
        with socket.create_connection((url.host, url.port)) as client:
            client.sendall(head.encode() + said)
        time.sleep(0.5)
        for _ in range(100):
            if idle(asked):
                break
            time.sleep(0.05)
        assert asked().status_code == 200


def test_a_stream_that_nobody_is_there_for_leaves_its_place(tiny_model: MetacogModel) -> None:
    connection = Connection("http://127.0.0.1:9", "served", None)
    config = configured(batch={"rows": 1, "queue": 0})
    app = build_proxy(
        Proxy(Planner(engine_for(tiny_model, 1, 512)), connection, Slow(), "tiny", config)
    )
    path = "/v1/chat/completions"
    headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    scope |= {"query_string": b"", "asgi": {"spec_version": "2.4"}}

    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps(body(stream=True)).encode()}

    async def send(_: Message) -> None:
        raise OSError("nobody is there")

    async def then() -> int:
        with contextlib.suppress(OSError, ClientDisconnect):
            await app(scope, receive, send)
        through = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=through, base_url="http://x", headers=HEAD
        ) as client:
            return (await client.post(path, json=body())).status_code

    assert asyncio.run(then()) == 200


@pytest.mark.parametrize(
    ("theirs", "ours", "code"),
    [
        (400, 400, "invalid_value"),
        (422, 400, "invalid_value"),
        (429, 429, "queue_full"),
        (401, 502, "engine_unreachable"),
        (403, 502, "engine_unreachable"),
        (404, 502, "engine_unreachable"),
        (408, 502, "engine_unreachable"),
        (503, 502, "engine_unreachable"),
    ],
)
def test_refusals_are_told_as_whose_they_are(
    tiny_model: MetacogModel, theirs: int, ours: int, code: str
) -> None:
    double = Double(status=theirs, head={"Retry-After": "7"})
    with proxied(tiny_model, "vllm", lines(double)) as asked:
        whole, stream = asked(), asked(stream=True)
    kind = "server_error" if ours >= 500 else "invalid_request_error"
    assert whole.status_code == ours
    for error in (whole.json()["error"], last_event(stream)["error"]):
        assert (error["code"], error["type"]) == (code, kind)
    assert whole.headers.get("Retry-After") == ("7" if ours == 429 else None)


@pytest.mark.parametrize(
    ("said", "wanted"), [("", 1), ("soon", 1), ("²", 1), ("9" * 5000, 1), ("99999", 3600)]
)
def test_only_seconds_are_passed_on(tiny_model: MetacogModel, said: str, wanted: int) -> None:
    double = Double(status=429, head={"Retry-After": said})
    with proxied(tiny_model, "two-calls", lines(double)) as asked:
        assert asked().headers["Retry-After"] == str(wanted)
