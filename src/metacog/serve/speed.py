"""How fast the server answers, beside `transformers serve` with the same base: one workload, in turn.

throughput_vs_transformers_serve = tokens/s of ours / tokens/s of the peer       higher is better
ttft_p50_ratio = median seconds to a first token, ours / the peer                lower is better

A first token is the first text that the model wrote: `transformers serve` begins by sending a prompt back
whose opener stands in the template, before anything has been computed.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.errors import RunError

_PATIENCE = 300.0
"""Seconds until a server must have begun."""


@dataclass(frozen=True)
class Load:
    """What is asked, of both alike."""

    prompts: tuple[str, ...]
    together: int
    """Requests that are under way at once."""
    max_tokens: int


@dataclass(frozen=True)
class Speed:
    """What one server did with a load."""

    tokens: int
    seconds: float
    first: tuple[float, ...]
    """Seconds from each request to its first token."""

    @property
    def throughput(self) -> float:
        """Tokens a second, over all requests."""
        return self.tokens / self.seconds

    @property
    def ttft_p50(self) -> float:
        """Median seconds to a first token."""
        return median(self.first)


def load_of(count: int, *, together: int, max_tokens: int) -> Load:
    """Return a load of questions from the test split."""
    drawn = draw_questions(Split.TEST, count, seed=0)
    return Load(tuple(question.text for question in drawn), together, max_tokens)


def ours(model: str, rows: int, port: int) -> list[str]:
    """Return the command that serves a model of ours."""
    settings = ["--port", str(port), "--rows", str(rows), "--queue", "100000"]
    return [sys.executable, "-m", "metacog", "serve", model, "--set", "name=bench", *settings]


def peer(base: Path, port: int, *, continuous: bool) -> list[str]:
    """Return the command that serves its base with transformers."""
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    script = Path(sys.executable).with_name("transformers")
    batching = ["--continuous-batching"] if continuous else []
    return [str(script), "serve", str(base), *options, *batching]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], port: int) -> Iterator[str]:
    """Yield the address of a server that was started for this block.

    Raises:
        RunError: If it does not answer in time.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + _PATIENCE
            while not _answers(url):
                if process.poll() is not None or time.monotonic() > end:
                    said.seek(0)
                    told = said.read()[-2000:].decode(errors="replace")
                    raise RunError(f"Wanted a server from `{' '.join(command)}`, got: {told}")
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def measured(url: str, model: str, load: Load, more: dict[str, Any]) -> Speed:
    """Return how a server does with a load, after one question to warm up."""
    return asyncio.run(_measured(url, model, load, more))


async def _measured(url: str, model: str, load: Load, more: dict[str, Any]) -> Speed:
    limits = httpx.Limits(max_connections=load.together)
    turn = asyncio.Semaphore(load.together)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:

        async def one(prompt: str) -> tuple[int, float]:
            body = {
                "model": model,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": load.max_tokens,
                "stream": True,
                "stream_options": {"include_usage": True},
                **more,
            }
            async with turn:
                return await _timed(client, body)

        await one(load.prompts[0])
        begun = time.perf_counter()
        found = await asyncio.gather(*(one(prompt) for prompt in load.prompts))
        seconds = time.perf_counter() - begun
    return Speed(sum(n for n, _ in found), seconds, tuple(first for _, first in found))


async def _timed(client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[int, float]:
    """Return the tokens of one reply and the seconds to its first."""
    begun, first, tokens = time.perf_counter(), None, 0
    prompt = body["messages"][-1]["content"]
    async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        async for chunk in _chunks(reply):
            deltas = [choice.get("delta", {}) for choice in chunk.get("choices", ())]
            said = any(written_in(delta, prompt) for delta in deltas)
            if said and first is None:
                first = time.perf_counter() - begun
            tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
    if first is None or not tokens:
        raise RunError(f"Wanted a reply with its usage, got none from {client.base_url}.")
    return tokens, first


async def _chunks(reply: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    if reply.status_code != 200:
        told = (await reply.aread())[:500].decode(errors="replace")
        raise RunError(f"Wanted a reply, got {reply.status_code}: {told}")
    async for line in reply.aiter_lines():
        text = line.removeprefix("data:").strip()
        if line.startswith("data:") and text != "[DONE]":
            yield json.loads(text)


def written_in(delta: dict[str, Any], prompt: str) -> bool:
    """Return whether a part of a reply holds what the model wrote, and not the question sent back."""
    texts = [delta.get(name) or "" for name in ("content", "reasoning", "reasoning_content")]
    return any(text and prompt not in text for text in texts)
