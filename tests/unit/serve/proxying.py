"""A real proxy before a double of another engine, for tests."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from metacog.model.bundle import MetacogModel
from metacog.serve.engines import Connection, OtherEngine, engine_named
from metacog.serve.proxy import Planner, Proxy, build_proxy
from metacog.serve.run import engine_for
from tests.unit.serve.serving import KEY, body, configured, running

HEAD = {"Authorization": f"Bearer {KEY}"}


@dataclass
class Asking:
    """A client of a proxy."""

    client: httpx.Client

    def __call__(self, **more: Any) -> httpx.Response:
        return self.client.post("/v1/chat/completions", json=body(**more))

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.client.get(path, **more)


@contextlib.contextmanager
def proxied(
    model: MetacogModel, name: str | OtherEngine, app: FastAPI | None = None, **config: Any
) -> Iterator[Asking]:
    """Yield a client of a proxy before an engine; without an app nobody listens there."""
    with contextlib.ExitStack() as stack:
        url = (
            "http://127.0.0.1:9" if app is None else stack.enter_context(running(app, configured()))
        )
        connection = Connection(url, "served", None)
        engine = engine_named(name, connection, model.base) if isinstance(name, str) else name
        planner = Planner(engine_for(model, 1, 512))
        proxy = Proxy(planner, connection, engine, "tiny", configured(**config))
        address = stack.enter_context(running(build_proxy(proxy), proxy.config))
        client = stack.enter_context(httpx.Client(base_url=address, headers=HEAD, timeout=60))

        yield Asking(client)
