"""A local model directory answers and is observed without a single call to the network."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from metacog.config.decoding import BudgetConfig, DecodingConfig
from metacog.model.bundle import MetacogModel

MODEL = "model/Tina"
"""A relative folder whose name could be an id on the hub."""

GUARD = """
import os, sys

def refuse(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        host = address[0] if isinstance(address, tuple) else "localhost"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost", b"localhost", None):
        os.write(2, f"a call to the network: {event} {host}".encode())
        os._exit(97)

sys.addaudithook(refuse)
"""
"""Ends the process at the first name that is looked up or address that is called off this machine."""

COMMAND = f"{GUARD}\nfrom metacog.cli.main import app\napp(prog_name='metacog')"


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_directory: Path, tiny_model: MetacogModel
) -> Path:
    """A working directory with a model, its layer and its gate in `model/Tina`."""
    path = tmp_path_factory.mktemp("work")
    shutil.copytree(tiny_directory, path / MODEL)
    budget = BudgetConfig(min_tokens=2, max_tokens=24, min_think=6, answer_reserve=16)
    replace(tiny_model, decoding=DecodingConfig(budget=budget)).save_layer(path / MODEL)
    return path


def run(code: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    offline = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**offline, "HF_HOME": str(cwd / "hub"), **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize(
    "call",
    [
        "socket.create_connection(('192.0.2.1', 80), timeout=1)",
        "socket.getaddrinfo('huggingface.co', 443)",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'?', ('192.0.2.1', 53))",
    ],
)
def test_the_guard_would_see_a_call(call: str, tmp_path: Path) -> None:
    result = run(
        f"{GUARD}\nimport socket\ntry:\n    {call}\nexcept OSError:\n    pass", cwd=tmp_path
    )
    assert result.returncode == 97, result.stderr


def test_observe_writes_reading_and_tokens_offline(folder: Path) -> None:
    result = run(
        COMMAND,
        *("observe", MODEL, "What is 3 + 4?", "--jsonl", "out.jsonl", "--budget", "24"),
        cwd=folder,
        HF_HUB_OFFLINE="1",
    )
    assert result.returncode == 0, result.stderr
    text = (folder / "out.jsonl").read_text(encoding="utf-8")
    head, *tokens = [json.loads(line) for line in text.splitlines()]

    assert head["kind"] == "reading"
    reading = head["reading"]
    assert sum(reading["plan"].values()) == pytest.approx(1, abs=1e-5)
    assert reading["chosen_plan"] in reading["plan"]
    assert 0 <= reading["confidence"] <= 1
    assert sum(reading["alpha"]) == pytest.approx(1, abs=1e-5)
    layers = reading["per_layer"]
    assert len(layers) == len(reading["alpha"]) == 3
    assert sum(layer["alpha"] for layer in layers) == pytest.approx(1, abs=1e-5)
    for layer in layers:
        assert sum(layer["plan"]) == pytest.approx(1, abs=1e-5)
        assert 2 <= layer["budget"] <= 24
        assert 0 <= layer["confidence"] <= 1

    assert {line["kind"] for line in tokens} == {"token"}
    assert [line["index"] for line in tokens] == list(range(len(tokens)))
    segments = [line["segment"] for line in tokens]
    used = head["budget"]["used"]
    assert segments[: used + 1] == ["think"] * used + ["close"]
    assert set(segments[used + 1 :]) == {"answer"}
    assert 6 <= used <= 24
    assert tokens[used]["text"] == "</think>"
    assert [line["gate_change"] is not None for line in tokens] == [s == "think" for s in segments]
    assert all(line["logprob"] <= 0 for line in tokens)
    for line in tokens:
        again = line["rereading"]
        assert again is None or (0 <= again["ready"] <= 1 and again["needed"] >= 0)


def test_generate_answers_without_a_call_even_where_calls_are_allowed(folder: Path) -> None:
    result = run(
        COMMAND, "generate", MODEL, "What is 3 + 4?", "--json", "--budget", "12", cwd=folder
    )
    assert result.returncode == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["think_tokens"] == data["budget"]["used"] <= 12
    assert data["budget"]["enforced"] == 12
    assert len(data["reading"]["per_layer"]) == 3
    assert sum(data["reading"]["alpha"]) == pytest.approx(1, abs=1e-5)


def test_a_folder_that_is_not_there_is_an_error_and_no_look_up(folder: Path) -> None:
    result = run(COMMAND, "generate", "model/Tima", "What is 3 + 4?", "--json", cwd=folder)
    assert result.returncode == 2, result.stderr
    assert "model/Tima" in result.stderr
    assert result.stdout == ""
