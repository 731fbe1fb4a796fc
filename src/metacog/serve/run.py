"""Starts the server: model, engine, routes, uvicorn."""

import uvicorn

from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings
from metacog.model.bundle import MetacogModel
from metacog.serve.app import Service, build_app


def engine_for(model: MetacogModel, rows: int) -> Engine:
    """Return the engine that answers: the settings of `metacog generate` for `rows` rows."""
    return Engine(model, engine_settings(model, rows=rows, telemetry=True))


def run(model: MetacogModel, service: Service, *, host: str, port: int, rows: int) -> None:
    """Answer until a signal stops the server."""
    app = build_app(engine_for(model, rows), service)
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)
