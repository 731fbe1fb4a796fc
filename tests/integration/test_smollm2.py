"""A real base of 135 million parameters, where `make smollm2` has put it."""

from dataclasses import replace
from pathlib import Path

import pytest

from metacog.decode.engine import Engine
from metacog.decode.settings import request_for
from metacog.model.bundle import load_model
from metacog.model.step import is_llama_shaped
from metacog.text.render import render

SMOLLM2 = Path(__file__).parents[2] / "models" / "SmolLM2-135M-Instruct"
BUDGET = 20

pytestmark = [
    pytest.mark.slow,
    # allowed: the model is fetched by a target of its own, never by the tests
    pytest.mark.skipif(not SMOLLM2.is_dir(), reason="made by `make smollm2`"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_it_thinks_within_its_budget_and_answers(attention: str, precision: str) -> None:
    model = load_model(SMOLLM2, attention=attention, precision=precision)
    base = model.base
    assert is_llama_shaped(base) is (attention == "sdpa")
    prompt = tuple(render(base.tokenizer, [{"role": "user", "content": "What is 3 + 4?"}]))
    request = request_for(model, prompt, request_id=0, budget=BUDGET, temperature=0.0)
    settings = replace(Engine(model).settings, rows=1)
    reply = next(Engine(model, settings).generate([replace(request, max_answer_tokens=24)]))
    assert reply.budget.used <= BUDGET
    text = base.decode([step.token for step in reply.steps], with_control=True)
    thought, closer, answer = text.partition("</think>")
    assert closer
    assert "3 + 4 = 7" in thought
    assert "</think>" not in answer


def test_the_tags_are_followed_as_several_ids() -> None:
    tags = load_model(SMOLLM2).base.tags
    assert (len(tags.think_open), len(tags.think_close)) == (3, 3)
    assert {name: len(tag.open) for name, tag in tags.marks.items()} == {
        "plan": 3,
        "exec": 3,
        "eval": 3,
    }
