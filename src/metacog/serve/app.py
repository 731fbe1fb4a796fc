"""The routes: OpenAI's shapes, errors included."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from metacog.config.serving import ServingConfig
from metacog.decode.engine import Engine
from metacog.records import Request as EngineRequest
from metacog.serve.answer import Answer
from metacog.serve.asking import chat_prompts, requests_for, text_prompts
from metacog.serve.errors import LOG
from metacog.serve.guard import Guard
from metacog.serve.metrics import Metrics
from metacog.serve.page import add_page
from metacog.serve.replying import (
    add_errors,
    add_models,
    check_model,
    log_asked,
    unless_gone,
)
from metacog.serve.shapes import ChatShape, Shape, TextShape
from metacog.serve.wire import Asked, ChatRequest, TextRequest
from metacog.serve.worker import Worker
from metacog.text.resolve import require_tags
from metacog.text.tags import TAGS, Tag

GIVE_UP_SECONDS = 120.0
"""Silence of the engine after which everybody who waits is told that nothing will come."""


@dataclass(frozen=True)
class Service:
    """What is served, and to whom."""

    name: str
    """Of the model, as clients name it."""
    config: ServingConfig = field(default_factory=ServingConfig)
    tags: tuple[Tag, ...] = TAGS
    """The marks that replies are split by: those of training."""


def build_app(engine: Engine, service: Service) -> FastAPI:
    """Return the application; its worker runs from its start to its end.

    Raises:
        TagError: If a tag of the service is none that the model's tokenizer writes.
    """
    require_tags(engine.model.base.tokenizer, service.tags)
    worker = Worker(engine, service.config.batch)
    metrics = Metrics(worker)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        watching = asyncio.create_task(_watch(worker))
        yield
        watching.cancel()
        await asyncio.to_thread(worker.stop, service.config.shutdown_seconds)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, config=service.config, metrics=metrics)
    add_errors(app)
    add_models(app, service.name)
    _state(app, worker, metrics)
    _replies(app, _Desk(engine, service, worker, metrics))
    add_page(app)
    return app


@dataclass(frozen=True)
class _Desk:
    """Takes bodies in and hands replies out, whatever their shape."""

    engine: Engine
    service: Service
    worker: Worker
    metrics: Metrics

    async def answer(
        self, asked: Asked, http: Request, shape: Shape, prompts: Callable[[], Any]
    ) -> Response:
        check_model(asked.model, self.service.name)
        asked.check(self.service.config.limits)
        if self.service.config.log_prompts:
            log_asked(asked)
        requests = await asyncio.to_thread(self._requests, asked, prompts)
        replies = Answer(
            self.worker,
            asked,
            requests,
            shape=shape,
            hidden=self.service.config.thinking == "hidden",
            metrics=self.metrics,
        )
        if asked.stream:
            return StreamingResponse(replies.chunks(), media_type="text/event-stream")
        return JSONResponse(await unless_gone(replies.whole(), http))

    def _requests(self, asked: Asked, prompts: Callable[[], Any]) -> list[EngineRequest]:
        """Render and check, away from the event loop: a template may take its time."""
        return requests_for(self.engine, asked, prompts())


def _replies(app: FastAPI, desk: _Desk) -> None:
    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, http: Request) -> Response:
        return await desk.answer(asked, http, ChatShape(), lambda: chat_prompts(desk.engine, asked))

    @app.post("/v1/completions")
    async def text(asked: TextRequest, http: Request) -> Response:
        return await desk.answer(asked, http, TextShape(), lambda: text_prompts(desk.engine, asked))


def _state(app: FastAPI, worker: Worker, metrics: Metrics) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> Response:
        status = 200 if worker.ready else 503
        said = {"ready": worker.ready, "running": worker.running, "waiting": worker.waiting}
        return JSONResponse(said, status)

    @app.get("/metrics")
    async def figures() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")


async def _watch(worker: Worker) -> None:
    """End the waiting of everybody where the engine says nothing for too long."""
    while worker.silence < GIVE_UP_SECONDS:
        await asyncio.sleep(1.0)
    LOG.error("the engine was silent for %.0f s; nothing is answered any more", GIVE_UP_SECONDS)
    worker.give_up()
