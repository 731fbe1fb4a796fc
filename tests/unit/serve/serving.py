"""A real server on a free port, for tests."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from metacog.config.serving import ServingConfig
from metacog.model.bundle import MetacogModel
from metacog.serve.app import Service, build_app
from metacog.serve.run import engine_for, server_of

KEY = "a-key-for-tests"
QUESTION = "What is 15 + 6?"


def configured(**changes: Any) -> ServingConfig:
    return ServingConfig.model_validate({"keys": [KEY], **changes})


def body(seed: int = 0, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": QUESTION}]
    return {"model": "tiny", "messages": messages, "seed": seed, "metacog": True, **more}


@contextlib.contextmanager
def served(model: MetacogModel, config: ServingConfig) -> Iterator[str]:
    """Yield the address of a server that answers until the block ends."""
    engine = engine_for(model, config.batch.rows, config.batch.context)
    with running(build_app(engine, Service("tiny", config)), config) as url:
        yield url


@contextlib.contextmanager
def running(app: FastAPI, config: ServingConfig) -> Iterator[str]:
    """Yield the address of an application that runs until the block ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = server_of(app, config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
