"""S9: a server that is told to end lets a reply end, takes nothing new, and exits with 0."""

import signal
from pathlib import Path

import httpx

from metacog.serve.speed import free_port
from tests.faults.processes import Trainer, wait_until
from tests.unit.serve.serving import QUESTION


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def test_a_running_reply_ends_and_the_exit_is_clean(trainer: Trainer, tiny_directory: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = trainer.start("serve", str(tiny_directory), "--port", str(port), "--set", "name=tiny")
    wait_until(lambda: answers(url), seconds=200)
    messages = [{"role": "user", "content": QUESTION}]
    asked = {"model": "tiny", "messages": messages, "stream": True, "temperature": 1.0}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=asked, timeout=200) as reply:
        lines = reply.iter_lines()
        next(lines)
        process.kill(signal.SIGTERM)
        said = [line for line in lines if line]
    assert said[-1] == "data: [DONE]"
    assert process.wait() == 0
    assert not answers(url)
    assert "Traceback" not in process.said
