"""Two hundred mixed requests at once are those alone; a server that runs for long does not grow."""

import asyncio
import gc
import os
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx
import psutil
import pytest

from metacog.model.bundle import MetacogModel
from tests.unit.serve.serving import KEY, body, configured, served

HEAD = {"Authorization": f"Bearer {KEY}"}
PATH = "/v1/chat/completions"
COUNT, DISTINCT = 200, 40
"""How many ask at once, and how many of them ask something else than the others."""
HALF_HOUR, FEWEST = 1800.0, 8
"""Seconds of the long soak, and waves of any."""


@pytest.fixture(scope="module")
def url(tiny_model: MetacogModel) -> Iterator[str]:
    with served(tiny_model, configured(batch={"rows": 32, "queue": 400})) as found:
        yield found


def mixed(number: int) -> dict[str, Any]:
    """Return one of many requests that differ in what they ask, in budget, sampling and seed."""
    draw = Random(number)
    questions = ("What is 15 + 6?", "What is 3 + 4?", "How many bits of 12 are set?")
    return body(
        draw.randrange(50),
        messages=[{"role": "user", "content": draw.choice(questions)}],
        thinking_token_budget=draw.choice(("auto", 0, 1, 5, 12)),
        temperature=draw.choice((0, 0.6, 1.0)),
        top_p=draw.choice((0.8, 1.0)),
        max_tokens=80,
    )


async def answered(client: httpx.AsyncClient, asked: dict[str, Any]) -> Any:
    reply = await client.post(PATH, json=asked)
    assert reply.status_code == 200, reply.text
    choice = reply.json()["choices"][0]
    return choice["message"], choice["metacog"]["token_ids"], choice["metacog"]["budget"]


async def compared(url: str, count: int) -> None:
    async with httpx.AsyncClient(base_url=url, headers=HEAD, timeout=240) as client:
        asked = [mixed(number % DISTINCT) for number in range(count)]
        together = await asyncio.gather(*(answered(client, one) for one in asked))
        alone = [await answered(client, one) for one in asked[:DISTINCT]]
    assert together == [alone[number % DISTINCT] for number in range(count)]


@pytest.mark.timeout(900)
def test_two_hundred_at_once_are_those_alone(url: str) -> None:
    asyncio.run(compared(url, COUNT))


async def soaked(url: str, seconds: float) -> list[float]:
    """Ask in waves for so long; return the memory after each, in MB."""
    end, found, number = time.monotonic() + seconds, list[float](), 0
    async with httpx.AsyncClient(base_url=url, headers=HEAD, timeout=240) as client:
        while time.monotonic() < end or len(found) < FEWEST:
            await asyncio.gather(*(answered(client, mixed(number + at)) for at in range(16)))
            number += 16
            gc.collect()
            found.append(psutil.Process(os.getpid()).memory_info().rss / 2**20)
    return found


def stays_flat(megabytes: list[float]) -> bool:
    """Say whether the last quarter holds at most 5 % more than the second."""
    quarter = max(1, len(megabytes) // 4)
    return max(megabytes[-quarter:]) <= 1.05 * max(megabytes[quarter : 2 * quarter])


@pytest.mark.timeout(900)
def test_a_few_seconds_in_flat_memory(url: str) -> None:
    assert stays_flat(asyncio.run(soaked(url, 8.0)))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_half_an_hour_in_flat_memory(url: str) -> None:
    assert stays_flat(asyncio.run(soaked(url, HALF_HOUR)))
