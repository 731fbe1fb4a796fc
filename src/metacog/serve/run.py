"""Starts the server: model, engine, routes, uvicorn, and what is written to the log."""

import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from metacog.config.serving import ServingConfig
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings
from metacog.model.bundle import MetacogModel
from metacog.serve.app import Service, build_app
from metacog.serve.errors import LOG
from metacog.serve.guard import HEADER_BYTES
from metacog.serve.protocol import bounded
from metacog.serve.proxy import Proxy, build_proxy

_IDLE_SECONDS = 15


def engine_for(model: MetacogModel, rows: int, context: int | None = None) -> Engine:
    """Return the engine that answers: the settings of `metacog generate` for `rows` rows."""
    settings = engine_settings(model, rows=rows, telemetry=True)
    return Engine(model, replace(settings, context=context))


class Redacting(logging.Filter):
    """Takes keys out of whatever is logged, by whom ever."""

    def __init__(self, config: ServingConfig) -> None:
        super().__init__()
        self._keys = [key.get_secret_value() for key in config.keys]

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite a record that holds a key; every record passes."""
        said = record.getMessage()
        for key in self._keys:
            said = said.replace(key, "[key]")
        record.msg, record.args = said, ()
        return True


def start_log(config: ServingConfig) -> None:
    """Write one line a request to stderr: method, route, status and time, and no prompt or key."""
    handler = logging.StreamHandler()
    handler.addFilter(Redacting(config))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    LOG.setLevel(logging.INFO)
    for name in (LOG.name, "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(handler)


class Server(uvicorn.Server):
    """A server that says where it listens once it does.

    Args:
        config: Of uvicorn.
        tell: Told the addresses.
    """

    def __init__(self, config: uvicorn.Config, tell: Callable[[str], None]) -> None:
        super().__init__(config)
        self.tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        names = [one.getsockname() for server in self.servers for one in server.sockets]
        if names:
            self.tell(", ".join(_address(*name[:2]) for name in names))


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def server_of(
    app: FastAPI, config: ServingConfig, tell: Callable[[str], None] = LOG.debug
) -> Server:
    """Return the server of an application, its headers and its end bounded.

    Args:
        app: What answers.
        config: Where, and within which bounds.
        tell: Told the addresses once it listens.
    """
    settings = uvicorn.Config(
        app,
        host=config.host,
        port=config.port,
        log_config=None,
        log_level="warning",
        access_log=False,
        ws="none",
        http=bounded(config.limits.header_seconds),
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=round(config.shutdown_seconds),
    )
    return Server(settings, tell)


def run(model: MetacogModel, service: Service, tell: Callable[[str], None]) -> None:
    """Answer until a signal stops the server; `tell` gets its address once it listens."""
    config = service.config
    engine = engine_for(model, config.batch.rows, config.batch.context)
    _run(build_app(engine, service), config, tell)


def run_proxy(proxy: Proxy, tell: Callable[[str], None]) -> None:
    """Plan for another engine until a signal stops the server; `tell` gets its address."""
    _run(build_proxy(proxy), proxy.config, tell)


def _run(app: FastAPI, config: ServingConfig, tell: Callable[[str], None]) -> None:
    start_log(config)
    # uvicorn ends in good order on a signal and then raises it again, which would count as a failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server_of(app, config, tell).run()
