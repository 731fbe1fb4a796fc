"""S8: a server that is killed in the middle of a reply leaves nobody hanging, and begins again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from metacog.serve.speed import free_port

QUESTION = "How many 1 bits are there in the binary representation of the number 300?"
ASKED = {
    "model": "nano",
    "stream": True,
    "thinking_token_budget": -1,
    "messages": [{"role": "user", "content": QUESTION}],
}
SECONDS = 120


@contextmanager
def serving(port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "metacog", "serve", "nano", "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + SECONDS
        while not ready(port):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_a_killed_server_breaks_off_at_once_and_begins_again_on_its_port() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    with serving(port) as process:
        with httpx.stream("POST", url, json=ASKED, timeout=30) as reply:
            lines = reply.iter_lines()
            next(lines)
            os.kill(process.pid, signal.SIGKILL)
            begun = time.monotonic()
            with pytest.raises(httpx.TransportError):
                list(lines)
            assert time.monotonic() - begun < 5
        process.wait(10)
        assert not ready(port)
    with serving(port):
        whole = httpx.post(url, json=ASKED | {"stream": False}, timeout=60)
    assert whole.json()["choices"][0]["finish_reason"] == "stop"
