"""I3: one prompt at once under different budgets, plans, keys and seeds: nothing of one reply reaches another."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

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
    return choice["message"], choice["metacog"]


def test_replies_to_one_prompt_are_those_of_a_cold_server(tiny_model: MetacogModel) -> None:
    config = configured(keys=[KEY, OTHER], batch={"rows": 8, "queue": 100})
    with served(tiny_model, config) as url, ThreadPoolExecutor(16) as pool:
        numbers = [*range(len(ASKED))] * 3
        together = list(pool.map(lambda number: reply(url, number), numbers))
    cold = []
    for number in range(len(ASKED)):
        with served(tiny_model, config) as url:
            cold.append(reply(url, number))
    assert together == cold * 3
    assert len({str(metacog["token_ids"]) for _, metacog in cold}) > len(ASKED) // 2
