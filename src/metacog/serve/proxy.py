"""The layer reads prompts here and plans; another engine that serves the same base writes the replies.

What needs the model's own states while it writes, the gate and re-readings, is not there, and every
reply says so.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from metacog.config.serving import ServingConfig
from metacog.decode.batch_budget import SEGMENTS
from metacog.decode.engine import Engine
from metacog.decode.forecast import Forecaster
from metacog.decode.opening import Opening
from metacog.decode.terms import NO_LIMIT
from metacog.errors import InputError
from metacog.records import Request as EngineRequest
from metacog.records import Segment
from metacog.serve.asking import behind, chat_prompts, requests_for, text_prompts
from metacog.serve.engines import Connection, Order, OtherEngine
from metacog.serve.errors import Busy
from metacog.serve.guard import Guard
from metacog.serve.metrics import Metrics
from metacog.serve.page import add_page
from metacog.serve.relay import Planned, Relay
from metacog.serve.replying import add_errors, add_models, check_model, log_asked, unless_gone
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
        self._forecaster = Forecaster(engine.model, engine.settings)
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
        budget = NO_LIMIT if opening.budget == NO_LIMIT else min(opening.budget, room)
        most = room if budget == NO_LIMIT else budget
        sampler = opening.sampler[_THINK]
        return Order(
            request=request,
            messages=None if messages is None else list(messages),
            budget=budget,
            room=room,
            temperature=sampler.temperature,
            top_p=sampler.top_p,
            marks=opening.marks if len(opening.marks) <= most else (),
            stops=asked.stops,
        )


@dataclass
class _Occupancy:
    """Replies that are planned or being written."""

    most: int
    running: int = field(default=0, init=False)
    waiting: int = field(default=0, init=False)

    def take(self, count: int) -> ExitStack:
        """Take places for replies, all or none; closing what is returned gives them back.

        Raises:
            InputError: If there are not that many places.
            Busy: If not that many are free.
        """
        if count > self.most:
            raise InputError(
                f"Wanted at most {self.most} replies to one request on this proxy, got {count}. Ask for "
                "less."
            )
        if self.running + count > self.most:
            raise Busy(f"{self.running} replies are under way of {self.most} that may. Try later.")
        self.running += count
        places = ExitStack()
        places.callback(self._leave, count)
        return places

    def _leave(self, count: int) -> None:
        self.running -= count


class _Stream(StreamingResponse):
    """A stream that gives its places back at its end, also where nobody is there to begin it for."""

    def __init__(self, chunks: AsyncIterator[str], places: ExitStack) -> None:
        super().__init__(chunks, media_type="text/event-stream")
        self.places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self.places:
            await super().__call__(scope, receive, send)


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
    batch = proxy.config.batch
    occupancy = _Occupancy(batch.rows + batch.queue)
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
        self,
        asked: Asked,
        http: Request,
        shape: Shape,
        plan: Callable[[], list[Planned]],
        count: int,
    ) -> Response:
        """Return the replies, `count` of them."""
        check_model(asked.model, self.proxy.name)
        asked.check(self.proxy.config.limits)
        if self.proxy.config.log_prompts:
            log_asked(asked)
        with self.occupancy.take(count) as places:
            relay = Relay(
                self.proxy.engine,
                asked,
                await asyncio.to_thread(plan),
                shape=shape,
                hidden=self.proxy.config.thinking == "hidden",
                metrics=self.metrics,
            )
            if asked.stream:
                return _Stream(relay.chunks(), places.pop_all())
            return JSONResponse(await unless_gone(relay.whole(), http))


def _replies(app: FastAPI, desk: _Desk) -> None:
    planner = desk.proxy.planner

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, http: Request) -> Response:
        def plan() -> list[Planned]:
            messages = [message.model_dump(exclude_none=True) for message in asked.messages]
            return planner.plan(asked, chat_prompts(planner.engine, asked), messages)

        return await desk.answer(asked, http, ChatShape(), plan, asked.n)

    @app.post("/v1/completions")
    async def text(asked: TextRequest, http: Request) -> Response:
        def plan() -> list[Planned]:
            return planner.plan(asked, text_prompts(planner.engine, asked), None)

        count = len(asked.prompts) * asked.n
        return await desk.answer(asked, http, TextShape(), plan, count)


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

    add_models(app, proxy.name)
