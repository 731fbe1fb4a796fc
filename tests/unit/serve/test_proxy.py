"""Plans for other engines: the layer's budget arrives, is kept or said not to be, and nothing is made up."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from metacog.cli.main import app as metacog
from metacog.cli.reply import ask, reply_of
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.model.bundle import MetacogModel
from metacog.records import Generation
from metacog.serve.run import engine_for
from metacog.text.render import render
from tests.conftest import MakeModel
from tests.unit.serve.other_engines import Double, chats, texts, vllm
from tests.unit.serve.proxying import proxied
from tests.unit.serve.serving import QUESTION, body


def prompt_of(model: MetacogModel) -> tuple[int, ...]:
    return tuple(render(model.base.tokenizer, [{"role": "user", "content": QUESTION}]))


def bare_reply(model: MetacogModel, budget: int, seed: int) -> Generation:
    bare = replace(model, reader=None, gate=None)
    engine = Engine(bare, engine_settings(bare, rows=1))
    request = request_for(model, prompt_of(model), budget=budget, seed=seed)
    (reply,) = engine.generate([replace(request, noise_id=0)])
    return reply


@pytest.mark.parametrize("budget", [0, 3, "auto"])
def test_vllm_gets_the_ids_that_were_read_and_the_budget(
    tiny_model: MetacogModel, budget: int | str
) -> None:
    double = Double()
    with proxied(tiny_model, "vllm", vllm(double, tiny_model)) as asked:
        said = asked(thinking_token_budget=budget, seed=5).json()["choices"][0]
    told, sent = said["metacog"], double.asked[0]
    own = reply_of(ask(tiny_model, QUESTION, budget=None if budget == "auto" else int(budget)))
    assert sent["thinking_token_budget"] == told["budget"]["enforced"] == own.budget.enforced
    assert told["plan"] == own.plan
    assert told["budget"]["predicted"] == own.budget.predicted
    wanted = bare_reply(tiny_model, sent["thinking_token_budget"], 5)
    base = tiny_model.base
    assert tuple(sent["prompt"]) == prompt_of(tiny_model)
    assert said["message"]["reasoning"] == base.decode(wanted.think, with_control=True)
    assert said["message"]["content"] == base.decode(wanted.answer).strip()
    assert told["budget"]["used"] == wanted.budget.used <= sent["thinking_token_budget"]
    assert told["close_reason"] == wanted.budget.close_reason
    assert told["budget"]["kept"] is True
    assert (told["gate"], told["rereadings"], told["engine"]) == (
        "unsupported",
        "unsupported",
        "vllm",
    )


@pytest.mark.parametrize("budget", [0, 2, 9])
def test_marks_of_several_ids_are_no_part_of_the_thinking(
    make_tiny_model: MakeModel, budget: int
) -> None:
    model = make_tiny_model()
    base = model.base
    tags = replace(base.tags, think_open=base.encode("so 7"), think_close=base.encode("so 8"))
    model = replace(model, base=replace(base, tags=tags))
    double = Double()
    with proxied(model, "vllm", vllm(double, model)) as asked:
        said = asked(thinking_token_budget=budget, seed=2).json()["choices"][0]
    sent = double.asked[0]["thinking_token_budget"]
    assert sent == max(0, budget - len(tags.think_open) + 1)
    wanted = bare_reply(model, budget if sent else 0, 2)
    assert said["message"]["reasoning"] == base.decode(wanted.think, with_control=True)
    assert said["message"]["content"] == base.decode(wanted.answer).strip()
    assert said["metacog"]["budget"]["used"] == len(wanted.think)
    reason = said["metacog"]["close_reason"]
    assert reason == (
        "disabled" if budget == 0 else "budget" if not sent else wanted.budget.close_reason
    )


def test_a_stream_says_the_same_and_its_plan_first(tiny_model: MetacogModel) -> None:
    with proxied(tiny_model, "vllm", vllm(Double(), tiny_model)) as asked:
        whole = asked(thinking_token_budget=6).json()
        more = {"stream": True, "stream_options": {"include_usage": True}}
        lines = asked(thinking_token_budget=6, **more).text.split("\n\n")
    chunks = [httpx.Response(200, text=line[6:]).json() for line in lines if line[6:7] == "{"]
    assert lines[-2] == "data: [DONE]"
    deltas = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    message = whole["choices"][0]["message"]
    assert "".join(d["delta"].get("reasoning", "") for d in deltas) == message["reasoning"]
    assert "".join(d["delta"].get("content", "") for d in deltas) == message["content"]
    assert deltas[1]["metacog"]["budget"]["enforced"] == 6
    assert chunks[-1]["usage"] == whole["usage"]
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 6


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("llama.cpp", "thinking_budget_tokens", 4),
        ("sglang", "custom_params", {"thinking_budget": 4}),
    ],
)
def test_engines_that_render_get_messages_and_their_own_field(
    tiny_model: MetacogModel, name: str, field: str, value: Any
) -> None:
    long = "15 + 6 = 21. " * 8
    double = Double(
        says=[
            [{"reasoning_content": "15"}, {"content": "2"}, {"content": "1"}],
            [{"reasoning": long}, {"content": "21"}],
        ]
    )
    with proxied(tiny_model, name, chats(double)) as asked:
        good = asked(thinking_token_budget=4).json()["choices"][0]
        bad = asked(thinking_token_budget=4).json()["choices"][0]
        asked_text = {"model": "tiny", "prompt": "2 + 2", "thinking_token_budget": 4}
        text = asked.client.post("/v1/completions", json=asked_text)
    assert double.asked[0][field] == value
    assert double.asked[0]["messages"] == [{"role": "user", "content": QUESTION}]
    assert good["message"]["content"] == "21"
    assert good["message"]["reasoning"] == "15"
    assert good["metacog"]["budget"]["kept"] is True
    assert good["metacog"]["close_reason"] is None
    assert bad["metacog"]["budget"]["kept"] is False
    assert bad["metacog"]["budget"]["used"] == len(tiny_model.base.encode(long))
    assert text.status_code == 400


def test_two_calls_think_then_answer(tiny_model: MetacogModel) -> None:
    double = Double(says=[(["15 +", " 6"], "length"), (["2", "1 and on"], "stop")])
    with proxied(tiny_model, "two-calls", texts(double)) as asked:
        said = asked(thinking_token_budget=5, stop=" and").json()["choices"][0]
    first, second = double.asked
    assert (first["max_tokens"], first["stop"]) == (5, ["</think>"])
    assert second["prompt"] == first["prompt"] + "15 + 6</think>"
    assert said["message"] == {
        "role": "assistant",
        "content": "21",
        "reasoning": "15 + 6",
        "reasoning_content": "15 + 6",
    }
    assert said["metacog"]["close_reason"] == "budget"
    assert said["finish_reason"] == "stop"


def test_two_calls_share_the_limit_of_a_reply(tiny_model: MetacogModel) -> None:
    double = Double(says=[(["15 +", " 6"], "length"), (["21"], "stop")])
    with proxied(tiny_model, "two-calls", texts(double)) as asked:
        said = asked(thinking_token_budget=-1, max_tokens=200).json()["choices"][0]
    first, second = double.asked
    closer = len(tiny_model.base.tags.think_close)
    reserve = engine_for(tiny_model, 1, 512).settings.controller.answer_reserve
    assert first["max_tokens"] == 200 - closer - reserve
    assert second["max_tokens"] == 200 - closer - said["metacog"]["budget"]["used"]
    assert said["metacog"]["close_reason"] == "max_tokens"


def test_no_thinking_is_one_call(tiny_model: MetacogModel) -> None:
    double = Double(says=[(["21"], "stop")])
    with proxied(tiny_model, "two-calls", texts(double), thinking="hidden") as asked:
        said = asked(thinking_token_budget=0).json()["choices"][0]
    assert len(double.asked) == 1
    assert said["message"]["content"] == "21"
    assert "reasoning" not in said["message"]
    assert said["metacog"]["close_reason"] == "disabled"


def test_a_budget_that_the_engine_refuses_is_an_error(tiny_model: MetacogModel) -> None:
    double = Double(status=400)
    with proxied(tiny_model, "vllm", vllm(double, tiny_model)) as asked:
        found = asked(thinking_token_budget=3)
        stream = asked(thinking_token_budget=3, stream=True)
    assert found.status_code == 400
    assert "reasoning_config is missing" in found.json()["error"]["message"]
    assert "reasoning_config is missing" in stream.text
    assert "[DONE]" not in stream.text


def test_an_engine_that_fails_is_told_as_such(tiny_model: MetacogModel) -> None:
    with proxied(tiny_model, "vllm", vllm(Double(breaks=True), tiny_model)) as asked:
        broken = asked(thinking_token_budget=3)
        assert asked.get("/ready").status_code == 200
    with proxied(tiny_model, "vllm", None) as asked:
        gone = asked(thinking_token_budget=3)
        assert asked.get("/ready").json()["ready"] is False
        assert asked.get("/health").status_code == 200
        assert asked(thinking_token_budget=10**9).status_code == 400
        assert "metacog_running 0.0" in asked.get("/metrics").text
    assert (broken.status_code, gone.status_code) == (502, 502)
    assert "out of memory" in broken.json()["error"]["message"]
    assert gone.json()["error"]["code"] == "engine_unreachable"


def test_keys_hold_here_too(tiny_model: MetacogModel) -> None:
    with proxied(tiny_model, "vllm", vllm(Double(), tiny_model)) as asked:
        assert asked.get("/v1/models", headers={"Authorization": "Bearer no"}).status_code == 401
        assert asked.get("/v1/models").json()["data"][0]["id"] == "tiny"
        assert asked.get("/v1/models/tiny").json()["id"] == "tiny"
        assert asked.get("/v1/models/other").status_code == 404


def test_half_a_character_is_refused_logged_or_not(tiny_model: MetacogModel) -> None:
    half = json.dumps(body(messages=[{"role": "user", "content": "\ud800"}]))
    head = {"Content-Type": "application/json"}
    with proxied(tiny_model, "vllm", vllm(Double(), tiny_model), log_prompts=True) as asked:
        found = asked.client.post("/v1/chat/completions", content=half, headers=head)
    assert found.status_code == 400


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (["--upstream", "ftp://x"], "http://"),
        (["--upstream", "http://x", "--engine", "tgi"], "two-calls"),
    ],
)
def test_the_verb_refuses_what_it_cannot_ask(more: list[str], wanted: str) -> None:
    found = CliRunner().invoke(metacog, ["plan-proxy", "nano", *more])
    assert found.exit_code == 2
    assert wanted in found.stderr
