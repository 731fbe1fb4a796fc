"""S3: a number, a list or a text beyond its limit is refused before anything reaches the model."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from metacog.model.bundle import MetacogModel
from tests.unit.serve.serving import KEY, body, configured, served

HEAD = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
PATH = "/v1/chat/completions"
TURN = {"role": "user", "content": "?"}


@pytest.fixture(scope="module")
def client(tiny_model: MetacogModel) -> Iterator[httpx.Client]:
    with (
        served(tiny_model, configured(limits={"messages": 3, "tokens": 100})) as url,
        httpx.Client(base_url=url, headers=HEAD, timeout=60) as found,
    ):
        yield found


@pytest.mark.parametrize("value", [-1, 0, 101, 2**70, 1.5, True, "2", float("nan"), 1e308])
@pytest.mark.parametrize("name", ["n", "max_tokens", "max_completion_tokens"])
def test_a_count(client: httpx.Client, name: str, value: Any) -> None:
    refused(client, {name: value})


@pytest.mark.parametrize("value", [-2, 101, 2**70, 1.0, True, "3", "none", float("inf"), [3]])
@pytest.mark.parametrize("name", ["thinking_token_budget", "max_thinking_tokens"])
def test_a_budget(client: httpx.Client, name: str, value: Any) -> None:
    refused(client, {name: value})


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": -1},
        {"temperature": 1e308},
        {"temperature": float("nan")},
        {"temperature": True},
        {"top_p": 0},
        {"top_p": 1.1},
        {"seed": 2**64},
        {"stop": ["a"] * 5},
        {"stop": "a" * 65},
        {"stop": ""},
        {"logit_bias": {"1": 100}},
        {"messages": [TURN] * 4},
        {"messages": [{**TURN, "role": "root"}]},
        {"messages": [{**TURN, "content": [["?"]]}]},
        {"messages": [{**TURN, "content": "? " * 20_000}]},
        {"messages": [{**TURN, "content": ""}, {**TURN, "content": "\ud800"}]},
        {"plan": "no-such-plan"},
        {"stream_options": {"include_usage": True, "more": 1}},
    ],
)
def test_a_field(client: httpx.Client, more: dict[str, Any]) -> None:
    refused(client, more)


def test_half_of_a_surrogate_pair_in_a_text(client: httpx.Client) -> None:
    asked = json.dumps({"model": "tiny", "prompt": "15 \ud800"})
    found = client.post("/v1/completions", content=asked)
    assert found.status_code == 400
    assert found.json()["error"]["code"] == "invalid_value"


def test_depth_and_headers(client: httpx.Client) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert client.post(PATH, content=deep).status_code == 400
    assert client.get("/health", headers={"X-Long": "a" * 200_000}).status_code in {400, 431}


def test_refused_headers_that_go_on_still_get_their_answer(client: httpx.Client) -> None:
    address = client.base_url.host, client.base_url.port or 80
    with socket.create_connection(address, timeout=30) as peer:
        peer.sendall(b"GET /health HTTP/1.1\r\nX-Long: " + b"a" * 200_000)
        for _ in range(20):
            time.sleep(0.01)
            peer.sendall(b"a" * 10_000)
        peer.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: peer.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 431 ")


def answer_to(client: httpx.Client, *pieces: bytes) -> tuple[bytes, dict[str, Any]]:
    """Return the head of an answer, and the error that it holds."""
    address = client.base_url.host, client.base_url.port or 80
    with socket.create_connection(address, timeout=30) as peer:
        for piece in pieces:
            peer.sendall(piece)
            time.sleep(0.2)
        peer.shutdown(socket.SHUT_WR)
        head, _, said = b"".join(iter(lambda: peer.recv(65_536), b"")).partition(b"\r\n\r\n")
    return head, json.loads(said)["error"]


def test_headers_that_are_too_long_are_told_so_however_they_come(client: httpx.Client) -> None:
    begun, rest = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: ", b"\r\n\r\n"
    for pieces in ([begun + b"a" * 40_000 + rest], [begun + b"a" * 20_000, b"a" * 20_000, rest]):
        head, error = answer_to(client, *pieces)
        assert head.startswith(b"HTTP/1.1 431 ")
        assert b"content-type: application/json" in head.lower()
        assert error["code"] == "headers_too_large"


def test_what_is_no_request_is_told_so(client: httpx.Client) -> None:
    head, error = answer_to(client, b"HELLO\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")


def test_refused_headers_that_never_end_lose_their_connection(tiny_model: MetacogModel) -> None:
    config = configured(limits={"header_seconds": 0.5})
    with served(tiny_model, config) as url:
        address = httpx.URL(url).host, httpx.URL(url).port or 80
        with (
            socket.create_connection(address, timeout=30) as peer,
            pytest.raises((BrokenPipeError, ConnectionResetError)),
        ):
            send_for(peer, seconds=5)


def send_for(peer: socket.socket, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        peer.sendall(b"a" * 10_000)
        time.sleep(0.01)


def refused(client: httpx.Client, more: dict[str, Any]) -> None:
    before = spent(client)
    found = client.post(PATH, content=json.dumps(body(**more)))
    assert found.status_code == 400, found.text
    assert found.json()["error"]["code"] == "invalid_value"
    assert spent(client) == before


def spent(client: httpx.Client) -> list[str]:
    lines = client.get("/metrics").text.splitlines()
    return [line for line in lines if line.startswith(("metacog_tokens_total", "metacog_running"))]
