"""The proxy before a real vLLM, where METACOG_TEST_VLLM names its program (`.../bin/vllm`)."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.model.bundle import load_model
from metacog.model.places import BUNDLED
from metacog.serve.engines import Connection, Vllm
from metacog.serve.proxy import Planner, Proxy, build_proxy
from metacog.serve.run import engine_for
from metacog.serve.speed import free_port, running
from metacog.text.render import render
from tests.unit.serve import serving
from tests.unit.serve.serving import KEY, configured

PROGRAM = os.environ.get("METACOG_TEST_VLLM")
SMOLLM2 = Path(__file__).parents[2] / "models" / "SmolLM2-135M-Instruct"
BUDGETS = ("auto", 0, 1, 2, 3, 7, 19, -1)

pytestmark = [
    pytest.mark.slow,
    # allowed: vLLM needs an environment of its own
    pytest.mark.skipif(PROGRAM is None, reason="METACOG_TEST_VLLM names no vLLM"),
]


def base_alone(out: Path) -> Path:
    """Copy nano's base: vLLM reads every weights file that lies in a directory."""
    for file in BUNDLED["nano"].iterdir():
        if not file.name.startswith(("metacog", "calibration", "decoding", "HASH")):
            shutil.copy(file, out)
    return out


@pytest.fixture(scope="module", params=["nano", "SmolLM2"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Yield what the proxy loads, and the address of a vLLM that serves its base."""
    nano = request.param == "nano"
    if not nano and not SMOLLM2.is_dir():
        pytest.skip("made by `make smollm2`")
    folder = base_alone(tmp_path_factory.mktemp("base")) if nano else SMOLLM2
    port, marks = free_port(), '{"reasoning_start_str": "<think>", "reasoning_end_str": "</think>"}'
    options = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "served"]
    numbers = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "1024"]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        command = [str(PROGRAM), "serve", str(folder), *options, *numbers]
        with running([*command, "--reasoning-config", marks], port) as url:
            yield ("nano" if nano else str(SMOLLM2)), url


def test_every_budget_is_kept_and_replies_are_those_of_the_bare_base(
    served: tuple[str, str],
) -> None:
    name, url = served
    model = load_model(name)
    bare = replace(model, reader=None, gate=None)
    engine = Engine(bare, engine_settings(bare, rows=1))
    connection = Connection(url, "served", None)
    planner = Planner(engine_for(model, 1, 512))
    proxy = Proxy(planner, connection, Vllm(connection, model.base), "tiny", configured())
    same, compared = 0, 0
    with serving.running(build_proxy(proxy), proxy.config) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)
        for number, question in enumerate(draw_questions(Split.VALIDATION, 24)):
            asked = BUDGETS[number % len(BUDGETS)]
            reply = client.chat.completions.create(
                model="tiny",
                messages=[{"role": "user", "content": question.text}],
                temperature=0.0,
                max_tokens=160,
                extra_body={"metacog": True, "thinking_token_budget": asked},
            )
            choice = reply.choices[0]
            budget = choice.model_extra["metacog"]["budget"]  # type: ignore[index]
            assert budget["kept"], (asked, budget)
            assert reply.usage is not None
            details = reply.usage.completion_tokens_details
            assert details is not None
            assert details.reasoning_tokens == budget["used"]
            if asked in {"auto", 19} and name == "nano":
                assert "</think" not in str(choice.message.content)
                assert budget["enforced"] is not None
                ids = tuple(
                    render(model.base.tokenizer, [{"role": "user", "content": question.text}])
                )
                request = request_for(bare, ids, budget=budget["enforced"], temperature=0.0)
                (own,) = engine.generate([replace(request, max_new_tokens=160)])
                compared += 1
                thought = choice.message.model_extra
                assert thought is not None
                same += (choice.message.content, thought["reasoning"]) == (
                    model.base.decode(own.answer).strip(),
                    model.base.decode(own.think, with_control=True),
                )
    assert same == compared
    if name == "nano":
        assert compared == 6
