"""S7: ten times what fits is refused at the bound, and the server is itself again at once after."""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from metacog.model.bundle import MetacogModel
from tests.unit.serve.serving import KEY, body, configured, served

HEAD = {"Authorization": f"Bearer {KEY}"}
PATH = "/v1/chat/completions"
ROWS, QUEUE = 4, 8
BATCH = {"rows": ROWS, "queue": QUEUE}


@pytest.fixture(scope="module")
def url(tiny_model: MetacogModel) -> Iterator[str]:
    """Address of a server that gives a client half a second."""
    limits = {"body_seconds": 0.5, "header_seconds": 0.5}
    with served(tiny_model, configured(batch=BATCH, limits=limits)) as found:
        yield found


@pytest.fixture(scope="module")
def patient_url(tiny_model: MetacogModel) -> Iterator[str]:
    """Address of a server for whose clients it is no fault to be slow: here they share its cores."""
    with served(tiny_model, configured(batch=BATCH)) as found:
        yield found


async def asked(client: httpx.AsyncClient, seed: int) -> httpx.Response:
    return await client.post(PATH, json=body(seed, thinking_token_budget=-1, temperature=1.0))


async def flood(url: str, count: int = 10 * (ROWS + QUEUE)) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, headers=HEAD, timeout=120, limits=limits) as client:
        return await asyncio.gather(*(asked(client, seed) for seed in range(count)))


def waits(replies: list[httpx.Response], status: int) -> list[float]:
    """Return how long each of those waited who were told this, in seconds."""
    return [r.elapsed.total_seconds() for r in replies if r.status_code == status]


def full_house(url: str) -> float:
    """Return the longest wait of as many as fit, in seconds; all of them are let in."""
    found = waits(asyncio.run(flood(url, ROWS + QUEUE)), 200)
    assert len(found) == ROWS + QUEUE
    return max(found)


def crowded_house(url: str) -> float:
    """Return the longest wait of who is let in among ten times as many, behind the last refusal.

    Until then the clients, who share a process with the server, are not done with asking.
    """
    replies = asyncio.run(flood(url))
    return max(waits(replies, 200)) - max(waits(replies, 429))


def test_who_is_let_in_waits_no_longer_than_in_a_full_house(patient_url: str) -> None:
    asyncio.run(flood(patient_url, ROWS))
    process = psutil.Process()
    full = max(full_house(patient_url) for _ in range(3))
    before = process.memory_info().rss
    crowded = min(crowded_house(patient_url) for _ in range(3))
    begun = time.monotonic()
    last = body(1, thinking_token_budget=4)
    after = httpx.post(patient_url + PATH, headers=HEAD, json=last, timeout=60)
    assert after.status_code == 200
    assert time.monotonic() - begun < 10
    assert crowded <= 2 * full
    assert process.memory_info().rss - before < 64 * 2**20


def test_what_does_not_fit_is_told_to_come_back(patient_url: str) -> None:
    replies = asyncio.run(flood(patient_url))
    counts = Counter(reply.status_code for reply in replies)
    assert counts.keys() <= {200, 429}
    assert counts[200] >= ROWS
    assert counts[429] >= 1
    refused = [reply for reply in replies if reply.status_code == 429]
    assert all(1 <= int(reply.headers["retry-after"]) <= 60 for reply in refused)
    assert all(reply.json()["error"]["code"] == "queue_full" for reply in refused)
    last = body(1, thinking_token_budget=0)
    after = httpx.post(patient_url + PATH, headers=HEAD, json=last, timeout=60)
    assert after.status_code == 200
    assert httpx.get(f"{patient_url}/ready").json()["waiting"] == 0


def test_headers_that_drip_lose_their_connection(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as link:
        begun = time.monotonic()
        link.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(50):
                link.sendall(b"X-Slow: 1\r\n")
                time.sleep(0.1)
    assert time.monotonic() - begun < 4
    assert httpx.get(f"{url}/health").status_code == 200


def test_a_connection_that_was_used_may_drip_no_longer_than_a_new_one(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as link:
        link.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        said = b""
        while not said.endswith(b"}"):
            said += link.recv(1000)
        assert b" 200 " in said
        time.sleep(1.0)  # waiting between two requests is no dripping
        link.sendall(b"GET /health HTTP/1.1\r\n")
        begun = time.monotonic()
        assert link.recv(1000) == b""
        assert time.monotonic() - begun < 4


def test_a_body_that_drips_is_refused(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as link:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        link.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert link.recv(100).startswith(b"HTTP/1.1 408")


def test_a_reader_that_does_not_read_holds_nobody_up(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as link:
        request: Any = httpx.Request("POST", url + PATH, json=body(2, stream=True))
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(request.content)}\r\n\r\n"
        link.sendall(head.encode() + request.content)
        time.sleep(0.1)
        other = httpx.post(url + PATH, headers=HEAD, json=body(3), timeout=60)
        assert other.status_code == 200
