"""S1: whatever a body holds, the answer is in OpenAI's shape, and the server goes on."""

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metacog.model.bundle import MetacogModel
from tests.unit.serve.serving import KEY, QUESTION, configured, served

HEAD = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
CASES, MANY = 100, 2000

TEXTS = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    ["\x00", "\ud800", "</think>", "<|im_end|>", "a" * 5000, QUESTION]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "messages",
    "n",
    "seed",
    "temperature",
    "top_p",
    "stop",
    "max_tokens",
    "max_completion_tokens",
    "reasoning_effort",
    "plan",
    "thinking_token_budget",
    "thinking_budget",
    "thinking",
    "stream",
    "stream_options",
    "metacog",
    "user",
    "other",
    "prompt",
]
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant"]) | TEXTS, "content": TEXTS}
    ),
    max_size=3,
)
BODIES = st.builds(
    lambda broken, messages: {
        "model": "tiny",
        "messages": messages,
        "prompt": QUESTION,
        "max_tokens": 8,
        **broken,
    },
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3),
    MESSAGES,
)


@pytest.fixture(scope="module")
def client(tiny_model: MetacogModel) -> Iterator[httpx.Client]:
    with (
        served(tiny_model, configured()) as url,
        httpx.Client(base_url=url, headers=HEAD, timeout=60) as found,
    ):
        yield found


def posted(client: httpx.Client, path: str, body: Any) -> None:
    content = json.dumps(body).encode()
    for only in ({}, {"prompt"}) if path.endswith("chat/completions") else ({}, {"messages"}):
        if isinstance(body, dict):
            content = json.dumps({k: v for k, v in body.items() if k not in only}).encode()
        found = client.post(path, content=content)
        assert found.status_code in {200, 400, 404}, (found.status_code, found.text, body)
        if found.status_code != 200:
            error = found.json()["error"]
            assert error.keys() == {"message", "type", "param", "code"}
            assert error["type"] == "invalid_request_error"


def fuzz(client: httpx.Client, count: int) -> None:
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(BODIES | VALUES, st.sampled_from(["/v1/chat/completions", "/v1/completions"]))
    def case(body: Any, path: str) -> None:
        posted(client, path, body)

    case()
    assert client.get("/health").status_code == 200
    assert client.get("/ready").json()["running"] == 0


def test_a_hundred_bodies(client: httpx.Client) -> None:
    fuzz(client, CASES)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_two_thousand_bodies_in_flat_memory(client: httpx.Client) -> None:
    fuzz(client, MANY // 2)  # memory is flat once every kind of refusal has been seen
    before = psutil.Process(os.getpid()).memory_info().rss
    fuzz(client, MANY)
    assert psutil.Process(os.getpid()).memory_info().rss < 1.05 * before


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 50_000, b"1e400", b'{"model": NaN}', b"null"]
)
def test_what_is_no_body(client: httpx.Client, content: bytes) -> None:
    found = client.post("/v1/chat/completions", content=content)
    assert found.status_code == 400
    assert found.json()["error"]["type"] == "invalid_request_error"
