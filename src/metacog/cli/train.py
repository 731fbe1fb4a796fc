"""`metacog train`: a run from a recipe."""

import json
from collections.abc import Sequence
from dataclasses import asdict
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
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check all, show the first batch with its masks, write and train nothing.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train what a recipe says, and print the run's directory."""
    if dry_run:
        _dry_run(recipe, overrides or (), as_json=as_json)
        return
    run, _ = run_recipe(recipe, overrides or (), run_dir=run_dir, resume=resume)
    from metacog.train.processes import is_first

    if is_first():
        typer.echo(json.dumps({"path": str(run.path)}) if as_json else str(run.path))


def _dry_run(recipe: Path, overrides: Sequence[str], *, as_json: bool) -> None:
    from metacog.config import cautions, digest, load
    from metacog.config.show import show

    config = load(recipe, overrides)
    for caution in cautions(config):
        typer.echo(f"metacog: {caution}", err=True)
    if not as_json:
        typer.echo(show(config), nl=False)
    from rich.console import Console

    from metacog.cli.preflight import print_preflight
    from metacog.train.preflight import preflight

    found = preflight(config)
    if as_json:
        checked = {"digest": digest(config), "config": config.model_dump(mode="json")}
        typer.echo(json.dumps({**asdict(found), **checked}, indent=2))
    else:
        print_preflight(found, Console(highlight=False))


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
    from metacog.cli.operating import operating_point
    from metacog.train.run import train as run_training
    from metacog.train.schedule import train_schedule

    def narrate(message: str) -> None:
        typer.echo(message, err=True)

    def finish(run: "RunDir") -> None:
        point = operating_point(config, run)
        narrate(
            f"operating point on validation: {point.think_tokens:.1f} of "
            f"{point.uncapped_think_tokens:.1f} THINK tokens, accuracy {point.accuracy:.1%} of "
            f"{point.reference_accuracy:.1%}, {point.thresholds}"
        )

    kind = config.run.objective.kind
    begin = train_schedule if kind == "schedule" else run_training
    has_point = kind in {"layer", "gate", "reread", "practice", "schedule"}
    run = begin(
        config,
        run_dir=run_dir,
        resume=resume,
        narrate=narrate,
        finish=finish if has_point else None,
    )
    return run, config
