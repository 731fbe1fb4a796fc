"""I3: one prompt at once under different budgets, plans, keys and seeds: nothing of one reply reaches another."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from metacog.config.decoding import DecodingConfig
from metacog.model.bundle import MetacogModel
from tests.unit.serve.serving import KEY, body, configured, served

PATH = "/v1/chat/completions"
OTHER = "another-tenant"
ASKED = [
    {"seed": seed, "thinking_token_budget": budget, "plan": plan, "temperature": 1.0}
    for seed in range(2)
    for budget in (0, 4, "auto", -1)
    for plan in (None, "verify")
]


def reply(url: str, number: int) -> Any:
    head = {"Authorization": f"Bearer {(KEY, OTHER)[number % 2]}"}
    found = httpx.post(url + PATH, headers=head, json=body(**ASKED[number]), timeout=120)
    assert found.status_code == 200, found.text
    choice = found.json()["choices"][0]
    told = choice["metacog"]
    exact = [choice["message"], told["plan"], told["budget"], told["close_reason"]]
    return [*exact, tuple(told["token_ids"])], told["confidence"]


def test_replies_to_one_prompt_are_those_of_a_cold_server(tiny_model: MetacogModel) -> None:
    marked = DecodingConfig.model_validate({"plan": {"inject": True, "scale": {"verify": 0.5}}})
    tiny_model = replace(tiny_model, decoding=marked)
    config = configured(keys=[KEY, OTHER], batch={"rows": 8, "queue": 100})
    with served(tiny_model, config) as url, ThreadPoolExecutor(16) as pool:
        numbers = [*range(len(ASKED))] * 3
        together = list(pool.map(lambda number: reply(url, number), numbers))
    cold = []
    for number in range(len(ASKED)):
        with served(tiny_model, config) as url:
            cold.append(reply(url, number))
    assert [exact for exact, _ in together] == [exact for exact, _ in cold] * 3
    confidences = [confidence for _, confidence in cold] * 3
    assert [confidence for _, confidence in together] == pytest.approx(confidences, abs=1e-5)
    assert len({exact[-1] for exact, _ in cold}) > len(ASKED) // 2
