"""`metacog config`: the schema, and recipes seen through it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from metacog.errors import InputError

app = typer.Typer(help="Look at, check and write recipes.", no_args_is_help=True)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key, such as run.steps=100."),
]
Recipe = Annotated[Path, typer.Argument(help="A recipe: a YAML file.")]
OptionalRecipe = Annotated[
    Path | None, typer.Argument(help="A recipe; without it, the defaults are taken.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe."""
    from metacog.config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def show(
    recipe: OptionalRecipe = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Print every key with its value; a star marks what differs from the default."""
    from metacog.config import apply_overrides, load, parse
    from metacog.config.show import show as as_table

    given = overrides or []
    if recipe is None:
        config = parse(apply_overrides({}, given), source="--set")
    else:
        config = load(recipe, given)
    if as_json:
        typer.echo(json.dumps(config.model_dump(mode="json"), indent=2))
    else:
        typer.echo(as_table(config), nl=False)


@app.command()
def validate(recipe: Recipe, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check a recipe; exit with 2 if it is not valid."""
    from metacog.config import cautions, digest, load

    config = load(recipe, overrides or [])
    warnings = cautions(config)
    for warning in warnings:
        typer.echo(f"metacog: caution: {warning}", err=True)
    if as_json:
        result = {"valid": True, "digest": digest(config), "cautions": list(warnings)}
        typer.echo(json.dumps(result, indent=2))
    else:
        typer.echo(f"{recipe}: valid, digest {digest(config)[:12]}")


@app.command()
def init(
    path: Annotated[
        Path | None, typer.Argument(help="File to write; without it, the recipe is printed.")
    ] = None,
) -> None:
    """Write a recipe with every key at its default, each under its explanation."""
    from metacog.config import RunConfig
    from metacog.config.show import template

    text = template(RunConfig())
    if path is None:
        typer.echo(text, nl=False)
        return
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise InputError(
            f"Wanted to write a new recipe, but {path} exists. Name another file."
        ) from error
    except OSError as error:
        raise InputError(
            f"Wanted to write a new recipe at {path}: {error.strerror}. Name a file that can be made."
        ) from error
    typer.echo(f"metacog: wrote {path}.", err=True)
