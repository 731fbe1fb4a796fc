"""Doubles of other engines on a real port: they check what they are asked, and write as such an engine does."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings
from metacog.model.bundle import MetacogModel
from metacog.records import Request as EngineRequest

KNOWN = {"model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stream"}


@dataclass
class Double:
    """What was asked, and what is to be said."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    says: list[Any] = field(default_factory=list)
    """Deltas of a conversation, or texts of a completion; each call takes one."""
    status: int = 200
    breaks: bool = False
    """Break off in the middle of a stream."""
    head: dict[str, str] = field(default_factory=dict)
    """Headers of an answer other than 200."""


def vllm(double: Double, model: MetacogModel) -> FastAPI:
    """Ids in, ids out, budgets as vLLM keeps them: the bare base under this project's engine."""
    app = FastAPI()
    bare = replace(model, reader=None, gate=None)
    engine = Engine(bare, engine_settings(bare, rows=1))

    def enforced(budget: int, prompt: list[int]) -> int:
        """Return what vLLM makes of a budget: an opener of several ids adds, thoughts in the prompt count."""
        opener = list(bare.base.tags.think_open)
        ends = (n for n in range(len(prompt), 0, -1) if prompt[:n][-len(opener) :] == opener)
        spent = len(prompt) - next(ends, len(prompt))
        return max(0, budget + len(opener) - 1 - spent) if budget > 0 else budget

    @app.post("/v1/completions")
    async def completions(http: Request) -> Response:
        body = await http.json()
        double.asked.append(body)
        if double.status != 200:
            return JSONResponse(
                {"error": {"message": "reasoning_config is missing"}}, double.status
            )
        assert body.keys() <= KNOWN | {"thinking_token_budget", "return_token_ids"}, body
        request = EngineRequest(
            id=0,
            prompt=tuple(body["prompt"]),
            budget=enforced(body.get("thinking_token_budget", -1), body["prompt"]),
            seed=body["seed"],
            temperature=body["temperature"],
            top_p=body["top_p"],
            max_new_tokens=body["max_tokens"],
            max_answer_tokens=bare.decoding.budget.answer_reserve,
        )
        (reply,) = engine.generate([request])
        tokens = [step.token for step in reply.steps]
        ended = "stop" if reply.finished else "length"
        chunks = [{"token_ids": [token], "text": "", "finish_reason": None} for token in tokens]
        chunks[-1]["finish_reason"] = ended
        return _streamed(chunks, double)

    _models(app)
    return app


def chats(double: Double) -> FastAPI:
    """Messages in, thinking and content out."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(http: Request) -> Response:
        double.asked.append(await http.json())
        deltas = double.says.pop(0)
        chunks = [{"delta": delta, "finish_reason": None} for delta in deltas]
        return _streamed([*chunks, {"delta": {}, "finish_reason": "stop"}], double)

    _models(app)
    return app


def texts(double: Double) -> FastAPI:
    """A text in, a text out: what every engine can do."""
    app = FastAPI()

    @app.post("/v1/completions")
    async def completions(http: Request) -> Response:
        double.asked.append(await http.json())
        pieces, ended = double.says.pop(0)
        chunks = [{"text": piece, "finish_reason": None} for piece in pieces]
        return _streamed([*chunks, {"text": "", "finish_reason": ended}], double)

    _models(app)
    return app


def lines(double: Double) -> FastAPI:
    """Whatever is to be said, as it stands, to any question."""
    app = FastAPI()

    @app.post("/v1/{path:path}")
    async def any_path(path: str) -> Response:
        if double.status != 200:
            return JSONResponse({"error": f"no {path}"}, double.status, double.head)
        said = "".join(f"data: {line}\n\n" for line in double.says)
        return Response(said, media_type="text/event-stream")

    _models(app)
    return app


def _streamed(chunks: list[dict[str, Any]], double: Double) -> Response:
    def lines() -> Iterator[str]:
        for chunk in chunks:
            yield f"data: {json.dumps({'choices': [{'index': 0, **chunk}]})}\n\n"
            if double.breaks:
                yield f"data: {json.dumps({'error': {'message': 'out of memory'}})}\n\n"
                return
        yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


def _models(app: FastAPI) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"data": [{"id": "served"}]}
