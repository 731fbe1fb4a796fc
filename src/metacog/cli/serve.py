"""`metacog serve`: the engine behind an OpenAI-compatible server."""

from pathlib import Path
from typing import Annotated

import typer

from metacog.cli.options import BaseName, LayerPath, ModelName


def serve(
    model: ModelName,
    layer: LayerPath = None,
    base: BaseName = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    rows: Annotated[int, typer.Option(help="Most replies that run at once.", min=1)] = 64,
    queue: Annotated[int, typer.Option(help="Most requests that wait for a slot.", min=0)] = 64,
    key: Annotated[
        list[str] | None,
        typer.Option(help="Bearer key; may be repeated.", envvar="METACOG_API_KEYS"),
    ] = None,
) -> None:
    """Serve a model to OpenAI clients, on this machine alone unless told otherwise."""
    from metacog.model.bundle import load_model
    from metacog.serve.app import Service
    from metacog.serve.run import run

    loaded = load_model(model, layer=layer, base_path=base)
    service = Service(name=Path(model).name, queue=queue, keys=tuple(key or ()))
    typer.echo(f"metacog: serving {service.name} at http://{host}:{port}/v1", err=True)
    run(loaded, service, host=host, port=port, rows=rows)
