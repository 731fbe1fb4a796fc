"""The routes: OpenAI's shapes, errors included."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.middleware.base import RequestResponseEndpoint

from metacog.decode.engine import Engine
from metacog.errors import InputError
from metacog.serve.asking import requests_for
from metacog.serve.chat import Chat
from metacog.serve.wire import ChatRequest
from metacog.serve.worker import Broken, Busy, Worker

OPEN_ROUTES = ("/health", "/ready")
"""Answered without a key."""


@dataclass(frozen=True)
class Service:
    """What is served, and to whom."""

    name: str
    """Of the model, as clients name it."""
    queue: int = 64
    """Most requests that wait for a slot."""
    keys: tuple[str, ...] = ()
    """Bearer keys; none leaves the server open."""
    body_bytes: int = 2**20
    """Longest body."""


def build_app(engine: Engine, service: Service) -> FastAPI:
    """Return the application; its worker runs from its start to its end."""
    worker = Worker(engine, service.queue)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await asyncio.to_thread(worker.stop)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _guard(app, service)
    _errors(app)
    _state(app, service, worker)

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, http: Request) -> Response:
        _check_model(asked.model, service)
        answer = Chat(worker, asked, requests_for(engine, asked))
        if asked.stream:
            return StreamingResponse(answer.chunks(), media_type="text/event-stream")
        return JSONResponse(await _unless_gone(answer, http))

    return app


def _state(app: FastAPI, service: Service, worker: Worker) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> Response:
        status = 200 if worker.alive else 503
        return JSONResponse({"ready": worker.alive, "waiting": worker.waiting}, status)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        one = {"id": service.name, "object": "model", "created": 0, "owned_by": "metacog"}
        return {"object": "list", "data": [one]}


def _guard(app: FastAPI, service: Service) -> None:
    wanted = [f"Bearer {key}".encode() for key in service.keys]

    @app.middleware("http")
    async def guard(http: Request, following: RequestResponseEndpoint) -> Response:
        sent = http.headers.getlist("authorization")
        known = len(sent) == 1 and any(
            secrets.compare_digest(sent[0].encode(), key) for key in wanted
        )
        if wanted and not known and http.url.path not in OPEN_ROUTES:
            return failure(401, "Wanted a known bearer key in `Authorization`.", "invalid_api_key")
        length = http.headers.get("content-length", "")
        if http.method == "POST" and not (length.isdecimal() and int(length) <= service.body_bytes):
            message = f"Wanted a body of a stated length up to {service.body_bytes} bytes."
            return failure(413, message, "body_too_large")
        return await following(http)


def _errors(app: FastAPI) -> None:
    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return failure(400, f"{where}: {first['msg']}", "invalid_value", where or None)

    async def refused(_: Request, error: Exception) -> Response:
        return failure(400, str(error), "invalid_value")

    async def busy(_: Request, error: Exception) -> Response:
        return failure(429, str(error), "queue_full", headers={"Retry-After": "1"})

    async def broken(_: Request, error: Exception) -> Response:
        return failure(503, str(error), "engine_stopped")

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return failure(error.status_code, str(error.detail), "not_found")

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(InputError, refused)
    app.add_exception_handler(Busy, busy)
    app.add_exception_handler(Broken, broken)
    app.add_exception_handler(HTTPException, http)


def failure(
    status: int,
    message: str,
    code: str,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Return an error in OpenAI's shape."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status, headers)


def _check_model(name: str, service: Service) -> None:
    if name != service.name:
        raise HTTPException(404, f"Wanted the model {service.name!r}, got {name!r}.")


async def _unless_gone(answer: Chat, http: Request) -> dict[str, Any]:
    """Return the replies, or cancel them where the client hangs up before."""
    whole = asyncio.create_task(answer.whole())
    gone = asyncio.create_task(_hung_up(http))
    try:
        await asyncio.wait({whole, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not whole.done():
            raise HTTPException(499, "The client hung up.")
        return whole.result()
    finally:
        whole.cancel()
        gone.cancel()


async def _hung_up(http: Request) -> None:
    while not await http.is_disconnected():
        await asyncio.sleep(0.02)
