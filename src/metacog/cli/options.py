"""Arguments that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

ModelName = Annotated[str, typer.Argument(help="Bundled name, or directory of a model or run.")]
LayerPath = Annotated[
    Path | None, typer.Option(help="Directory of the layer, if not the model's own.")
]
BaseName = Annotated[str | None, typer.Option(help="Base of an adapter, if not the one it names.")]
