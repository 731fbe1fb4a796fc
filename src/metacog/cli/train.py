"""`metacog train`: a run from a recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from metacog.config.run import RunConfig
    from metacog.telemetry.rundir import RunDir


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file of the run.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: a.b=value.")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run goes; must not exist, but for --resume.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            help="Go on from a checkpoint's directory, or `auto` for the newest whole one."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Check the configuration, train nothing.")] = False,
) -> None:
    """Train what a recipe says, and print the run's directory."""
    from metacog.config import cautions, load
    from metacog.config.show import show

    if dry_run:
        config = load(recipe, overrides or ())
        for caution in cautions(config):
            typer.echo(f"metacog: {caution}", err=True)
        typer.echo(show(config), nl=False)
        return
    run, _ = run_recipe(recipe, overrides or (), run_dir=run_dir, resume=resume)
    typer.echo(str(run.path))


def run_recipe(
    recipe: Path,
    overrides: Sequence[str],
    *,
    run_dir: Path | None = None,
    resume: str | None = None,
) -> "tuple[RunDir, RunConfig]":
    """Train what a recipe says; a layer or gate also gets its operating point from validation."""
    from metacog.config import load

    config = load(recipe, overrides)
    from metacog.cli.operating import bare_accuracy, set_operating_point, validation_features
    from metacog.train.run import train as run_training

    def narrate(message: str) -> None:
        typer.echo(message, err=True)

    run = run_training(config, run_dir=run_dir, resume=resume, narrate=narrate)
    if config.run.objective.kind in {"layer", "gate", "reread"}:
        features, reference = validation_features(config, run), bare_accuracy(config, run)
        directory = run.path / "final"
        point = set_operating_point(directory, directory, features, reference=reference)
        typer.echo(
            f"operating point on validation: {point.think_tokens:.1f} of "
            f"{point.uncapped_think_tokens:.1f} THINK tokens, accuracy {point.accuracy:.1%} of "
            f"{point.reference_accuracy:.1%}, {point.thresholds}",
            err=True,
        )
    return run, config
