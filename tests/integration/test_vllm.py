"""The proxy before a real vLLM, where METACOG_TEST_VLLM names its program (`.../bin/vllm`)."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import openai
import pytest

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.model.bundle import load_model
from metacog.model.places import BUNDLED
from metacog.serve.engines import Line, Vllm
from metacog.serve.proxy import Planner, Proxy, build_proxy
from metacog.serve.run import engine_for
from metacog.serve.speed import free_port
from metacog.text.render import render
from tests.unit.serve.other_engines import running
from tests.unit.serve.serving import KEY, configured

PROGRAM = os.environ.get("METACOG_TEST_VLLM")
SMOLLM2 = Path(__file__).parents[2] / "models" / "SmolLM2-135M-Instruct"
SECONDS = 300
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
    process = subprocess.Popen(
        [str(PROGRAM), "serve", str(folder), *options, *numbers, "--reasoning-config", marks],
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
    )
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
        while not _there(url):
            assert process.poll() is None
            assert time.monotonic() < end, "vLLM did not begin"
            time.sleep(0.5)
        yield ("nano" if nano else str(SMOLLM2)), url
    finally:
        process.terminate()
        process.wait(timeout=60)


def _there(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/models", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_every_budget_is_kept_and_replies_are_those_of_the_bare_base(
    served: tuple[str, str],
) -> None:
    name, url = served
    model = load_model(name)
    bare = replace(model, reader=None, gate=None)
    engine = Engine(bare, engine_settings(bare, rows=1))
    line = Line(url, "served", None)
    planner = Planner(engine_for(model, 1, 512))
    proxy = Proxy(planner, line, Vllm(line, model.base), "tiny", configured())
    same, compared = 0, 0
    with running(build_proxy(proxy)) as address:
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
                same += choice.message.content == model.base.decode(own.answer).strip()
    assert same >= 0.8 * compared
    if name == "nano":
        assert compared == 6
