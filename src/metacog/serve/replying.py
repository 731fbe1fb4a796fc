"""What both servers share: the list of models, errors in OpenAI's shape, and clients that hang up."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from metacog.errors import InputError
from metacog.serve.errors import LOG, Broken, Busy, Unreachable, error_body
from metacog.serve.wire import Asked

Reply = TypeVar("Reply")
_CODES = {404: "not_found", 405: "method_not_allowed", 499: "client_gone"}


def add_errors(app: FastAPI) -> None:
    """Answer every error that a route may end in."""

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return failure(400, f"{where}: {first['msg']}", "invalid_value", where or None)

    async def refused(_: Request, error: Exception) -> Response:
        return failure(400, str(error), "invalid_value", _param(str(error)))

    async def busy(_: Request, error: Exception) -> Response:
        assert isinstance(error, Busy)
        answer = failure(429, str(error), "queue_full")
        answer.headers["Retry-After"] = str(error.seconds)
        return answer

    async def broken(_: Request, error: Exception) -> Response:
        return failure(503, str(error), "engine_stopped")

    async def unreachable(_: Request, error: Exception) -> Response:
        return failure(502, str(error), "engine_unreachable")

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = error.status_code
        answer = failure(status, str(error.detail), _CODES.get(status, "invalid_request"))
        answer.headers.update(error.headers or {})
        return answer

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(InputError, refused)
    app.add_exception_handler(Busy, busy)
    app.add_exception_handler(Broken, broken)
    app.add_exception_handler(Unreachable, unreachable)
    app.add_exception_handler(HTTPException, http)


def add_models(app: FastAPI, name: str) -> None:
    """Say which model is served, in a list and under its name."""
    one = {"id": name, "object": "model", "created": 0, "owned_by": "metacog"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [one]}

    @app.get("/v1/models/{wanted:path}")
    async def model(wanted: str) -> dict[str, Any]:
        check_model(wanted, name)
        return one


def check_model(wanted: str, name: str) -> None:
    """Refuse a model that is not served.

    Raises:
        HTTPException: If it is another one.
    """
    if wanted != name:
        raise HTTPException(404, f"Wanted the model {name!r}. Name it.")


def log_asked(asked: Asked) -> None:
    """Write a body into the log; half of a surrogate pair, which no log can hold, as its number."""
    said = json.dumps(asked.model_dump(exclude_unset=True), ensure_ascii=False)
    LOG.info("asked: %s", said.encode(errors="backslashreplace").decode())


def failure(status: int, message: str, code: str, param: str | None = None) -> JSONResponse:
    """Return an error in OpenAI's shape."""
    return JSONResponse(error_body(status, message, code, param), status)


async def unless_gone(work: Coroutine[Any, Any, Reply], http: Request) -> Reply:
    """Return what the work comes to, or cancel it where the client hangs up before."""
    whole = asyncio.create_task(work)
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
    while (await http.receive())["type"] != "http.disconnect":
        pass


def _param(message: str) -> str | None:
    """Return the field that a message of ours begins with."""
    field_name, colon, _ = message.partition(":")
    return field_name if colon and field_name.replace("_", "").isalpha() else None
