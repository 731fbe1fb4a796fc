"""Arguments that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

ModelName = Annotated[
    str, typer.Argument(help="Bundled name, directory of a model or run, or hub id.")
]
LayerPath = Annotated[
    Path | None, typer.Option(help="Directory of the layer, if not the model's own.")
]
ServingFile = Annotated[
    Path | None, typer.Option(help="A YAML file; `docs/serving.md` lists its keys.")
]
ServingKeys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key, such as batch.rows=16."),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
PortNumber = Annotated[
    int | None, typer.Option("--port", help="Port to listen on.", min=0, max=65535)
]
BaseName = Annotated[str | None, typer.Option(help="Base of an adapter, if not the one it names.")]
