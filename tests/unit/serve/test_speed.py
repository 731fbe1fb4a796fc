"""What counts as a first token, and what a measurement of a real server says."""

from typing import Any

import pytest

from metacog.model.bundle import MetacogModel
from metacog.serve.speed import Load, measured, written_in
from tests.unit.serve.serving import QUESTION, configured, served


@pytest.mark.parametrize(
    ("delta", "wanted"),
    [
        ({"role": "assistant", "content": ""}, False),
        ({"content": f"<|user|>{QUESTION}<|assistant|>"}, False),
        ({"content": None, "reasoning": "<plan>"}, True),
        ({"content": "21"}, True),
    ],
)
def test_a_question_sent_back_is_no_token(delta: dict[str, Any], wanted: bool) -> None:
    assert written_in(delta, QUESTION) is wanted


def test_a_real_server_is_measured(tiny_model: MetacogModel) -> None:
    load = Load((QUESTION, "What is 2 + 2?"), together=2, max_tokens=120)
    with served(tiny_model, configured(keys=[])) as url:
        found = measured(url, "tiny", load, {"thinking_token_budget": 3})
    assert len(found.first) == 2
    assert found.tokens >= 2 * 3
    assert 0 < found.ttft_p50 < found.seconds
