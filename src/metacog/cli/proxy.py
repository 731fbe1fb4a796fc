"""`metacog plan-proxy`: the layer plans, another engine that serves the same base writes."""

import os
from pathlib import Path
from typing import Annotated

import typer

from metacog.cli.options import (
    BaseName,
    Host,
    LayerPath,
    ModelName,
    PortNumber,
    ServingFile,
    ServingKeys,
)

_KEYS, _UPSTREAM_KEY = "METACOG_API_KEYS", "METACOG_UPSTREAM_KEY"


def plan_proxy(
    model: ModelName,
    upstream: Annotated[str, typer.Option(help="Address of the engine: http://127.0.0.1:8001")],
    layer: LayerPath = None,
    base: BaseName = None,
    engine: Annotated[
        str, typer.Option(help="What it is: vllm, sglang, llama.cpp, or two-calls for any other.")
    ] = "two-calls",
    upstream_model: Annotated[
        str | None, typer.Option(help="The base, as the engine names it; by default as here.")
    ] = None,
    config: ServingFile = None,
    overrides: ServingKeys = None,
    host: Host = None,
    port: PortNumber = None,
) -> None:
    """Plan here, write there: budgets of the layer for an OpenAI-compatible engine.

    Keys of clients stand in METACOG_API_KEYS, the engine's in METACOG_UPSTREAM_KEY.
    """
    from metacog.config.serving import load_serving, with_options
    from metacog.errors import InputError

    keys = [key for key in os.environ.get(_KEYS, "").split(",") if key]
    found = with_options(
        load_serving(config, overrides or []), {"host": host, "port": port, "keys": keys or None}
    )
    if not upstream.startswith(("http://", "https://")):
        raise InputError(f"Wanted the address of an engine, http://..., got {upstream!r}.")
    from metacog.model.bundle import load_model
    from metacog.serve.engines import ENGINES, Connection, engine_named
    from metacog.serve.proxy import Planner, Proxy
    from metacog.serve.run import engine_for, run_proxy

    if engine not in ENGINES:
        raise InputError(f"Wanted an engine among {', '.join(ENGINES)}, got {engine!r}.")
    loaded = load_model(model, layer=layer, base_path=base)
    name = found.name or Path(model).name
    connection = Connection(upstream, upstream_model or name, os.environ.get(_UPSTREAM_KEY))
    planner = Planner(engine_for(loaded, 1, found.batch.context))
    run_proxy(
        Proxy(planner, connection, engine_named(engine, connection, loaded.base), name, found),
        lambda at: typer.echo(
            f"metacog: planning for {engine} at {connection.url}: {at}", err=True
        ),
    )
