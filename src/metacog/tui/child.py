"""A model in a process of its own that speaks JSON lines; the cockpit itself never imports torch."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from typing import IO

_LONGEST_LINE = 1 << 24
"""Bytes; a longer one is no line of ours."""
_SECONDS_TO_LEAVE = 2.0
_LAST_WORDS = 2_000
"""Characters of what the process said last that are kept."""


def command(model: str) -> list[str]:
    """Return the command that loads a model and waits for questions."""
    return [sys.executable, "-m", "metacog", "inspect", model]


class ModelChild:
    """One model, from `start` until it has ended.

    Args:
        argv: What is started.
    """

    def __init__(self, argv: list[str]) -> None:
        self._argv = argv
        self._process: asyncio.subprocess.Process | None = None
        self._errors: IO[bytes] | None = None

    async def start(self) -> None:
        """Start the process.

        Raises:
            OSError: If it cannot be started.
        """
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._errors,
            limit=_LONGEST_LINE,
            env={**os.environ, "NO_COLOR": "1"},
        )

    async def lines(self) -> AsyncIterator[Mapping[str, object]]:
        """Yield what it tells until it ends; what is no JSON object is left out."""
        assert self._process is not None
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # longer than any line of ours
                self.kill()
                return
            if not line:
                return
            told = _parsed(line)
            if told is not None:
                yield told

    async def send(self, line: Mapping[str, object]) -> bool:
        """Tell it something; False where it has ended."""
        if self._process is None or self._process.stdin is None:
            return False
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    async def close(self) -> None:
        """End it: stdin is closed, and what does not leave by itself is killed."""
        if self._process is None:
            return
        await self.send({"stop": True})
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _SECONDS_TO_LEAVE)
        except TimeoutError:
            self.kill()
            await self._process.wait()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def ended(self) -> str:
        """Wait for its end and return how it was: its code, and what it said last."""
        assert self._process is not None
        code = await self._process.wait()
        words = ""
        if self._errors is not None:
            self._errors.seek(0)
            words = self._errors.read().decode(errors="replace")[-_LAST_WORDS:].strip()
        last = words.splitlines()[-1] if words else "It said nothing."
        by = f"signal {-code}" if code < 0 else f"code {code}"
        return f"The model's process ended by {by}. {last}"


def _parsed(line: bytes) -> Mapping[str, object] | None:
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None
