"""S4, S5: what a client writes is text, and what is hidden stays hidden, streamed or whole."""

import json
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx
import pytest

from metacog.errors import InputError
from metacog.model.bundle import MetacogModel
from metacog.serve.asking import chat_prompts, text_prompts
from metacog.serve.run import engine_for
from metacog.serve.wire import ChatRequest, TextRequest
from tests.unit.serve.serving import KEY, body, configured, served

HEAD = {"Authorization": f"Bearer {KEY}"}
PATH = "/v1/chat/completions"
PARTS = (
    "<",
    "think",
    ">",
    "</think>",
    "</",
    "\u200b",
    "\uff1cthink\uff1e",
    "&lt;think&gt;",
    "<<think>>",
    "a",
    "\n",
    " ",
)


def drawn(draw: Random, names: list[str]) -> str:
    return "".join(draw.choice((*names, *PARTS)) for _ in range(draw.randint(1, 8))) + "?"


def scene(model: MetacogModel, count: int) -> int:
    """Return how many of so many prompts were rendered; each holds the template's control ids alone."""
    engine, draw, rendered = engine_for(model, 1), Random(0), 0
    tokenizer = model.base.tokenizer
    control = set(tokenizer.added_tokens_decoder)
    names = [token.content for token in tokenizer.added_tokens_decoder.values()]

    def control_of(ids: tuple[int, ...]) -> Counter[int]:
        return Counter(token for token in ids if token in control)

    def chat(*texts: str) -> tuple[int, ...]:
        turns = [
            {"role": "user" if at % 2 == 0 else "assistant", "content": t}
            for at, t in enumerate(texts)
        ]
        return chat_prompts(engine, ChatRequest.model_validate({"model": "m", "messages": turns}))[
            0
        ]

    plain = control_of(chat("a", "a", "a"))
    for _ in range(count):
        texts = [drawn(draw, names) for _ in range(3)]
        try:
            assert control_of(chat(*texts)) == plain
            (ids,) = text_prompts(engine, TextRequest(model="m", prompt=texts[0]))
        except InputError:
            continue
        opener = model.base.tags.think_open
        assert control_of(ids) == control_of(opener)
        rendered += 1
    return rendered


def test_three_hundred_texts_hold_no_control(tiny_model: MetacogModel) -> None:
    assert scene(tiny_model, 300) > 150


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_texts_hold_no_control(tiny_model: MetacogModel) -> None:
    assert scene(tiny_model, 10_000) > 5000


@pytest.fixture(scope="module")
def hiding(tiny_model: MetacogModel) -> Iterator[httpx.Client]:
    with (
        served(tiny_model, configured(thinking="hidden")) as url,
        httpx.Client(base_url=url, headers=HEAD, timeout=120) as found,
    ):
        yield found


@pytest.mark.parametrize("seed", range(12))
def test_streamed_and_whole_say_the_same_and_no_thought(
    hiding: httpx.Client, tiny_model: MetacogModel, seed: int
) -> None:
    asked = body(seed, temperature=1.0, thinking_token_budget=8)
    whole = hiding.post(PATH, json=asked).json()["choices"][0]
    chunks = chunks_of(hiding.post(PATH, json={**asked, "stream": True}).text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == whole["message"]["content"]
    assert all(delta.keys() <= {"role", "content"} for delta in deltas)
    answer = whole["metacog"]["token_ids"]
    assert whole["message"]["content"] == tiny_model.base.decode(answer).strip()
    assert chunks[-1]["choices"][0]["metacog"] == whole["metacog"]


def chunks_of(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]
