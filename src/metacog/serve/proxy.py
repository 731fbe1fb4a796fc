"""The layer reads prompts here and plans; another engine that serves the same base writes the replies.

What needs the model's own states while it writes, the gate and re-readings, is not there, and every
reply says so.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from metacog.config.serving import ServingConfig
from metacog.decode.batch_budget import SEGMENTS
from metacog.decode.engine import Engine
from metacog.decode.forecast import Forecaster
from metacog.decode.opening import Opening
from metacog.decode.terms import NO_LIMIT
from metacog.records import Request as EngineRequest
from metacog.records import Segment
from metacog.serve.asking import behind, chat_prompts, requests_for, text_prompts
from metacog.serve.engines import Connection, Order, OtherEngine
from metacog.serve.errors import LOG, Busy
from metacog.serve.guard import Guard
from metacog.serve.metrics import Metrics
from metacog.serve.page import add_page
from metacog.serve.relay import Planned, Relay
from metacog.serve.replying import add_errors, unless_gone
from metacog.serve.shapes import ChatShape, Shape, TextShape
from metacog.serve.wire import Asked, ChatRequest, TextRequest

_THINK = SEGMENTS.index(Segment.THINK)


class Planner:
    """Reads prompts and says how replies are to be written.

    Args:
        engine: Whose model and settings are read with; it writes nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._forecaster = Forecaster(engine.model, engine.settings.opening)
        self._lock = threading.Lock()

    def plan(
        self, asked: Asked, prompts: list[tuple[int, ...]], messages: list[dict[str, Any]] | None
    ) -> list[Planned]:
        """Return a plan for each reply that a body asks for.

        Raises:
            InputError: If it cannot be answered as asked.
        """
        requests = requests_for(self.engine, asked, prompts)
        with self._lock:
            openings = self._forecaster.openings(requests)
        return [
            Planned(self._order(request, opening, asked, messages), opening)
            for request, opening in zip(requests, openings, strict=True)
        ]

    def _order(
        self, request: EngineRequest, opening: Opening, asked: Asked, messages: Sequence[Any] | None
    ) -> Order:
        room = max(0, request.max_new_tokens - behind(self.engine))
        sampler = opening.sampler[_THINK]
        return Order(
            request=request,
            messages=None if messages is None else list(messages),
            budget=NO_LIMIT if opening.budget == NO_LIMIT else min(opening.budget, room),
            temperature=sampler.temperature,
            top_p=sampler.top_p,
            marks=opening.marks,
            stops=asked.stops,
        )


@dataclass
class _Occupancy:
    """Replies that are being written."""

    running: int = 0
    waiting: int = field(default=0, init=False)


@dataclass(frozen=True)
class Proxy:
    """What plans, what writes, and under which name."""

    planner: Planner
    connection: Connection
    engine: OtherEngine
    name: str
    """Of the model, as clients name it."""
    config: ServingConfig = field(default_factory=ServingConfig)


def build_proxy(proxy: Proxy) -> FastAPI:
    """Return the application."""
    occupancy = _Occupancy()
    metrics = Metrics(occupancy)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await proxy.connection.client.aclose()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, config=proxy.config, metrics=metrics)
    add_errors(app)
    _state(app, proxy, occupancy, metrics)
    _replies(app, _Desk(proxy, occupancy, metrics))
    add_page(app)
    return app


@dataclass(frozen=True)
class _Desk:
    """Takes bodies in and hands replies out, whatever their shape."""

    proxy: Proxy
    occupancy: _Occupancy
    metrics: Metrics

    async def answer(
        self, asked: Asked, http: Request, shape: Shape, plan: Callable[[], list[Planned]]
    ) -> Response:
        if asked.model != self.proxy.name:
            raise HTTPException(404, f"Wanted the model {self.proxy.name!r}. Name it.")
        asked.check(self.proxy.config.limits)
        if self.proxy.config.log_prompts:
            LOG.info("asked: %s", asked.model_dump_json(exclude_unset=True))
        if self.occupancy.running >= self.proxy.config.batch.rows + self.proxy.config.batch.queue:
            raise Busy("As many replies are under way as may. Try later.")
        relay = Relay(
            self.proxy.engine,
            asked,
            await asyncio.to_thread(plan),
            shape=shape,
            hidden=self.proxy.config.thinking == "hidden",
            metrics=self.metrics,
        )
        if asked.stream:
            return StreamingResponse(self._counted(relay), media_type="text/event-stream")
        self.occupancy.running += 1
        try:
            return JSONResponse(await unless_gone(relay.whole(), http))
        finally:
            self.occupancy.running -= 1

    async def _counted(self, relay: Relay) -> AsyncIterator[str]:
        self.occupancy.running += 1
        try:
            async for chunk in relay.chunks():
                yield chunk
        finally:
            self.occupancy.running -= 1


def _replies(app: FastAPI, desk: _Desk) -> None:
    planner = desk.proxy.planner

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, http: Request) -> Response:
        def plan() -> list[Planned]:
            messages = [message.model_dump(exclude_none=True) for message in asked.messages]
            return planner.plan(asked, chat_prompts(planner.engine, asked), messages)

        return await desk.answer(asked, http, ChatShape(), plan)

    @app.post("/v1/completions")
    async def text(asked: TextRequest, http: Request) -> Response:
        def plan() -> list[Planned]:
            return planner.plan(asked, text_prompts(planner.engine, asked), None)

        return await desk.answer(asked, http, TextShape(), plan)


def _state(app: FastAPI, proxy: Proxy, occupancy: _Occupancy, metrics: Metrics) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> Response:
        there = await proxy.connection.answers()
        said = {"ready": there, "running": occupancy.running, "waiting": occupancy.waiting}
        return JSONResponse(said, 200 if there else 503)

    @app.get("/metrics")
    async def figures() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        one = {"id": proxy.name, "object": "model", "created": 0, "owned_by": "metacog"}
        return {"object": "list", "data": [one]}
