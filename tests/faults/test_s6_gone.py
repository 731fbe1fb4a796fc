"""S6: who hangs up leaves the batch, whenever that is, and nobody else notices."""

import asyncio
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx
import pytest

from metacog.model.bundle import MetacogModel
from tests.unit.serve.serving import KEY, body, configured, served

HEAD = {"Authorization": f"Bearer {KEY}"}
LONG = {"thinking_token_budget": -1, "temperature": 1.0}
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def url(tiny_model: MetacogModel) -> Iterator[str]:
    with served(tiny_model, configured(batch={"rows": 8, "queue": 100})) as found:
        yield found


async def leave_soon(client: httpx.AsyncClient, seed: int, seconds: float) -> None:
    stream = bool(seed % 2)
    asked = body(seed, stream=stream, **LONG)
    try:
        async with asyncio.timeout(seconds), client.stream("POST", PATH, json=asked) as reply:
            async for _ in reply.aiter_lines():
                pass
    except TimeoutError:
        pass


async def answered(client: httpx.AsyncClient, seed: int) -> Any:
    reply = await client.post(PATH, json=body(seed, **LONG))
    return reply.json()["choices"][0]["metacog"]["token_ids"]


async def scene(url: str, count: int) -> None:
    draw = Random(0)
    async with httpx.AsyncClient(base_url=url, headers=HEAD, timeout=120) as client:
        alone = [await answered(client, seed) for seed in range(4)]
        leaving = [
            leave_soon(client, seed, draw.choice((0.001, 0.02, 0.1))) for seed in range(count)
        ]
        staying = asyncio.gather(*(answered(client, seed) for seed in range(4)))
        await asyncio.gather(*leaving)
        assert await staying == alone
        end = time.monotonic() + 5
        while (state := (await client.get("/ready")).json())["running"] or state["waiting"]:
            assert time.monotonic() < end, state
            await asyncio.sleep(0.02)


def test_twenty_hang_up(url: str) -> None:
    asyncio.run(scene(url, 20))


@pytest.mark.slow
def test_two_hundred_hang_up(url: str) -> None:
    for _ in range(10):
        asyncio.run(scene(url, 20))
