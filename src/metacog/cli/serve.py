"""`metacog serve`: the engine behind an OpenAI-compatible server."""

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

_KEYS = "METACOG_API_KEYS"


def serve(
    model: ModelName,
    layer: LayerPath = None,
    base: BaseName = None,
    config: ServingFile = None,
    overrides: ServingKeys = None,
    host: Host = None,
    port: PortNumber = None,
    rows: Annotated[int | None, typer.Option(help="Most replies that run at once.", min=1)] = None,
    queue: Annotated[
        int | None, typer.Option(help="Most requests that wait for a slot.", min=0)
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help=f"Bearer key; may be repeated, or stand in {_KEYS} with commas."),
    ] = None,
) -> None:
    """Serve a model to OpenAI clients, on this machine alone unless told otherwise."""
    from metacog.config.serving import load_serving, with_options

    keys = [*(key or []), *filter(None, os.environ.get(_KEYS, "").split(","))]
    found = with_options(
        load_serving(config, overrides or []),
        {"host": host, "port": port, "keys": keys or None},
        {"rows": rows, "queue": queue},
    )
    from metacog.model.bundle import load_model
    from metacog.serve.app import Service
    from metacog.serve.run import run

    loaded = load_model(model, layer=layer, base_path=base)
    service = Service(name=found.name or Path(model).name, config=found)
    run(
        loaded, service, lambda at: typer.echo(f"metacog: serving {service.name} at {at}", err=True)
    )
