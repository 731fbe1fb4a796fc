"""Replies in a conversation, piece by piece: from a model in this process or from a server."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from metacog.errors import InputError, RunError

Data = dict[str, Any]
Messages = Sequence[dict[str, str]]
_SECONDS = 300


@dataclass(frozen=True)
class Piece:
    """What a reply has grown by, and what is known of it by now."""

    thinking: str = ""
    answer: str = ""
    used: int | None = None
    """Tokens that were thought so far, where the piece says so."""
    told: Data | None = None
    """The `metacog` object: at the start what was read, at the end what became of it."""
    ended: bool = False


@runtime_checkable
class Talk(Protocol):
    """Whoever answers."""

    def reply(self, messages: Messages, budget: int | None, seed: int) -> Iterator[Piece]:
        """Yield one reply; a budget of None is `auto`."""


class LocalTalk:
    """A model in this process."""

    def __init__(self, model: Any) -> None:
        from metacog.decode.engine import Engine
        from metacog.decode.settings import engine_settings

        self.model = model
        self.engine = Engine(model, engine_settings(model, rows=1, telemetry=True))

    def reply(self, messages: Messages, budget: int | None, seed: int) -> Iterator[Piece]:
        """Yield one reply of the engine's."""
        from metacog.decode.settings import request_for
        from metacog.records import Generation, Opened
        from metacog.serve import report
        from metacog.serve.pieces import Speech
        from metacog.text.render import render

        ids = tuple(render(self.model.base.tokenizer, messages))
        speech = Speech(self.model.base)
        for event in self.engine.follow([request_for(self.model, ids, budget=budget, seed=seed)]):
            if isinstance(event, Opened):
                yield Piece(told=report.opened(event))
            elif isinstance(event, Generation):
                told = report.metacog(event, len(event.steps), hidden=False)
                yield Piece(*speech.end(), told=told, ended=True)
            else:
                yield Piece(*speech.push(event), used=speech.thinking.count)


class ServerTalk:
    """A server that speaks as `metacog serve` does."""

    def __init__(self, url: str, key: str | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(
                f"Wanted the address of a server, such as http://127.0.0.1:8000, got {url!r}."
            )
        self.url = url.rstrip("/").removesuffix("/v1")
        self.head = {"Content-Type": "application/json"}
        if key:
            self.head["Authorization"] = f"Bearer {key}"
        with self._open("/v1/models", None) as reply:
            self.name: str = json.load(reply)["data"][0]["id"]

    def reply(self, messages: Messages, budget: int | None, seed: int) -> Iterator[Piece]:
        """Yield one reply as it is streamed."""
        named = "auto" if budget is None else budget
        asked = {"model": self.name, "messages": list(messages), "stream": True, "seed": seed}
        with self._open(
            "/v1/chat/completions", {**asked, "metacog": True, "thinking_token_budget": named}
        ) as lines:
            for line in lines:
                text = line.decode().strip().removeprefix("data: ")
                if text and text != "[DONE]":
                    yield from _pieces(json.loads(text))

    def _open(self, path: str, body: Data | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, self.head)
        try:
            return urllib.request.urlopen(asked, timeout=_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(10_000).decode(errors="replace")
            raise RunError(f"The server at {self.url} answered {error.code}: {said}") from error
        except OSError as error:
            raise RunError(
                f"Wanted a server at {self.url}, but: {error}. Start one with `metacog serve`."
            ) from error


def _pieces(chunk: Data) -> Iterator[Piece]:
    if "error" in chunk:
        raise RunError(f"The server stopped the reply: {chunk['error']['message']}")
    for choice in chunk["choices"]:
        delta, about = choice["delta"], choice.get("metacog") or {}
        yield Piece(
            thinking=delta.get("reasoning", ""),
            answer=delta.get("content", ""),
            used=about.get("used"),
            told=about if "budget" in about else None,
            ended=choice["finish_reason"] is not None,
        )
