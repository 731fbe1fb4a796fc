"""`metacog chat`: a conversation in the terminal, thinking folded behind a bar of its budget."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metacog.cli.options import BaseName, LayerPath

if TYPE_CHECKING:
    from metacog.cli.talk import Talk


def chat(
    model: Annotated[
        str,
        typer.Argument(help="Bundled name, directory of a model, hub id, or address of a server."),
    ] = "nano",
    layer: LayerPath = None,
    base: BaseName = None,
    key: Annotated[
        str | None, typer.Option(help="Bearer key of the server.", envvar="METACOG_API_KEY")
    ] = None,
    budget: Annotated[
        str, typer.Option(help="auto, or THINK tokens; 0 none, -1 no limit.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the sampling noise.")] = 0,
) -> None:
    """Talk to a model, or to a server that serves one."""
    from metacog.cli.generate import parse_budget
    from metacog.cli.room import Room

    named = parse_budget(budget)
    Room(_talk(model, layer, base, key), named, seed).run()


def _talk(model: str, layer: Path | None, base: str | None, key: str | None) -> "Talk":
    from metacog.cli.talk import LocalTalk, ServerTalk

    if model.startswith(("http://", "https://")):
        return ServerTalk(model, key or os.environ.get("METACOG_API_KEYS", "").split(",")[0])
    from metacog.model.bundle import load_model

    return LocalTalk(load_model(model, layer=layer, base_path=base))
