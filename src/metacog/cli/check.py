"""`metacog preflight`: all that a run needs, looked at before it starts."""

from pathlib import Path
from typing import Annotated

import typer

from metacog.errors import EXIT_FAILED


def preflight(
    recipe: Annotated[Path, typer.Argument(help="YAML file of the run.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: a.b=value.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where the run will be made.")] = Path("runs"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each check as a JSON line once it is known.")
    ] = False,
) -> None:
    """Check all that a run needs, to one step taken in a temporary directory; exit with 1 if wrong."""
    from metacog.config import load

    config = load(recipe, overrides or ())
    from metacog.telemetry.boot import encode
    from metacog.train.boot import boot

    for check in boot(config, runs=runs):
        if as_json:
            typer.echo(encode(check))
        else:
            says = check.says.replace("\n", f"\n{'':<16}")
            typer.echo(f"{'●' if check.is_right else '✖'} {check.name:<14}{says}")
    if not check.is_right:
        raise typer.Exit(EXIT_FAILED)
