"""`metacog calibrate`: honest numbers for a layer, from questions it has not seen."""

import json
from pathlib import Path
from typing import Annotated

import typer

from metacog.cli.options import BaseName, LayerPath, ModelName


def calibrate(
    model: ModelName,
    layer: LayerPath = None,
    base: BaseName = None,
    n: Annotated[
        int, typer.Option(min=50, help="Questions of the calibration split to ask.")
    ] = 3000,
    plan_prompts: Annotated[
        int, typer.Option(min=0, help="Questions on which every plan is tried; 0 tries none.")
    ] = 300,
    coverage: Annotated[
        float, typer.Option(min=0.01, max=0.999, help="Share of needs that the scale covers.")
    ] = 0.9,
    enforce_coverage: Annotated[
        bool,
        typer.Option(help="Enforce the covering budget instead of the operating point's."),
    ] = False,
    risk: Annotated[
        float | None,
        typer.Option(
            min=0.0001,
            max=0.5,
            help="Choose thresholds that lose a right answer with this probability at most.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of questions and sampling noise.")] = 1,
    tasks: Annotated[list[str] | None, typer.Option(help="Question families; repeat it.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the layer; by default where it came from.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit confidence, plan thresholds, budget clip and scale, and save them with the layer."""
    from metacog.cli.calibration import Wanted, calibrate_model, place_of
    from metacog.data.tasks.families import FAMILIES
    from metacog.model.bundle import load_model

    directory = out or place_of(model, layer)
    loaded = load_model(model, layer=layer, base_path=base)
    wanted = Wanted(
        n=n,
        plan_prompts=plan_prompts,
        coverage=coverage,
        enforce_coverage=enforce_coverage,
        risk=risk,
        seed=seed,
        families=tuple(tasks or FAMILIES),
    )

    def narrate(done: int, total: int, left: float) -> None:
        typer.echo(f"{done} of {total} questions, {left:.0f} s left", err=True)

    calibrated, account = calibrate_model(loaded, wanted, narrate)
    calibrated.save_layer(directory)
    typer.echo(f"saved with the layer in {directory.absolute()}", err=True)
    if as_json:
        typer.echo(json.dumps(account, indent=2, allow_nan=False))
    else:
        for name, value in account.items():
            typer.echo(f"{name:24} {value}")
