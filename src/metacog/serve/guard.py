"""What stands before every route: keys, bodies that are bounded in size and time, one log line each."""

import asyncio
import logging
import secrets
import time
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metacog.config.serving import ServingConfig
from metacog.serve.errors import error_body, surviving
from metacog.serve.metrics import Metrics

OPEN_ROUTES = frozenset({"/", "/page.js", "/page.css", "/health", "/ready"})
"""Answered without a key: they hold nothing of anybody's."""
HEADER_BYTES = 32 * 1024
"""All headers together."""
_GONE = 499
"""Of a request that nothing was said to."""
LOG = logging.getLogger("metacog.serve")


class Guard:
    """The outermost part of the application.

    Args:
        app: Everything behind it.
        config: Keys and limits.
        metrics: Told of each request's route and status.
    """

    def __init__(self, app: ASGIApp, config: ServingConfig, metrics: Metrics) -> None:
        self.app, self.config, self.metrics = app, config, metrics
        self._wanted = [f"Bearer {key.get_secret_value()}".encode() for key in config.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request or pass it on, and note what became of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.monotonic(), _GONE

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with surviving("a request") as outcome:
                await self._answer(scope, receive, noting)
            if outcome.failed and status == _GONE:
                await refusal(500)(scope, receive, noting)
            status = 500 if outcome.failed else status
        finally:
            self._note(scope, status, time.monotonic() - begun)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refusal(scope)
        body = None if refused is not None else await self._body(scope, receive)
        if isinstance(body, Response):
            refused = body
        if refused is not None:
            await refused(scope, receive, send)
        else:
            await self.app(scope, _replaying(body, receive), send)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return what is wrong with the head of a request, before its body is read."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            return refusal(431)
        return None if self._known(scope) else refusal(401)

    def _known(self, scope: Scope) -> bool:
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        if not self._wanted or scope["path"] in OPEN_ROUTES:
            return True
        # Every key is compared, whether or not one has matched: time tells nothing.
        same = [secrets.compare_digest(sent[0], key) for key in self._wanted if len(sent) == 1]
        return any(same)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | Response:
        """Return the whole body, or the refusal of one that is too long or too slow."""
        limits, parts, length = self.config.limits, list[bytes](), 0
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if not stated.isdigit() or int(stated[:12]) > limits.body_bytes:
            return refusal(413)
        try:
            async with asyncio.timeout(limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    parts.append(message.get("body", b""))
                    length += len(parts[-1])
                    if length > limits.body_bytes:
                        return refusal(413)
                    more = message.get("more_body", False)
        except TimeoutError:
            return refusal(408)
        return b"".join(parts)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """Write what was asked for by the name of its route: a path may hold anything."""
        route = scope.get("route")
        path = "other" if route is None else str(route.path)
        self.metrics.requests.labels(path, str(status)).inc()
        LOG.info("%s %s %d %.0f ms", scope["method"], path, status, 1000 * seconds)


def _replaying(body: Any, receive: Receive) -> Receive:
    """Return a way to read a body that has been read, then what comes after it."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


_REFUSALS = {
    400: ("Wanted HTTP/1.1, got something else. Speak it.", "invalid_request"),
    401: ("Wanted a known bearer key in `Authorization`.", "invalid_api_key"),
    408: ("Wanted a whole body in time. Send it faster.", "body_too_slow"),
    413: ("Wanted a shorter body. Send less.", "body_too_large"),
    431: ("Wanted shorter headers. Send less.", "headers_too_large"),
    500: ("The server failed. Ask again; its log says where.", "internal_error"),
}


def refusal(status: int) -> Response:
    """Return the answer to what comes no further than here, in OpenAI's shape."""
    return JSONResponse(error_body(status, *_REFUSALS[status]), status)
