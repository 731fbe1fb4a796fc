"""`metacog eval`: accuracy for tokens, beside everything it is compared with."""

import json
from pathlib import Path
from typing import Annotated

import typer

from metacog.cli.options import BaseName, LayerPath, ModelName


def evaluate(
    model: ModelName,
    layer: LayerPath = None,
    base: BaseName = None,
    against: Annotated[
        str | None,
        typer.Option(help="Model whose bare base it is compared with, if not its own."),
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Test questions.")] = 1000,
    matching: Annotated[
        int, typer.Option(min=1, help="Calibration questions on which baselines are matched.")
    ] = 1000,
    seeds: Annotated[list[int] | None, typer.Option(help="Sampling seeds; repeat it.")] = None,
    tasks: Annotated[list[str] | None, typer.Option(help="Question families; repeat it.")] = None,
    budgets: Annotated[
        str, typer.Option(help="Budgets to run: auto,none,16,32,64; auto and none always are.")
    ] = "",
    rows: Annotated[Path | None, typer.Option(help="File for a JSON line for every reply.")] = None,
    report: Annotated[Path | None, typer.Option(help="Directory for a page with plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model with its layer against constant, label and permuted budgets."""
    caps = parse_caps(budgets)
    from metacog.cli.curve import print_curve
    from metacog.cli.measure import Size, measure
    from metacog.cli.measure import report as write_report
    from metacog.data.tasks.families import FAMILIES
    from metacog.eval.rows import write_rows
    from metacog.model.bundle import load_model

    size = Size(
        n=n,
        matching=matching,
        seeds=tuple(seeds or (0, 1, 2)),
        families=tuple(tasks or FAMILIES),
    )
    loaded = load_model(model, layer=layer, base_path=base)
    other = None if against is None else load_model(against)
    found, summary = measure(loaded, size, caps=caps, against=other)
    if rows is not None:
        write_rows(rows, found.rows)
    if report is not None:
        page = write_report(report, found, summary, loaded)
        typer.echo(f"report: {page.absolute()}", err=True)
    if as_json:
        typer.echo(json.dumps(summary, indent=2, allow_nan=False))
    else:
        print_curve(summary)


def parse_caps(text: str) -> tuple[int, ...]:
    """Return the constant caps of a list such as `auto,none,16,32,64`.

    Raises:
        InputError: If one is no whole number of 0 or more.
    """
    from metacog.errors import InputError

    named = [part.strip() for part in text.split(",") if part.strip()]
    parts = [part for part in named if part not in {"auto", "none"}]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"Wanted --budgets such as auto,none,16,32,64 (tokens), got {text!r}.")
    return tuple(int(part) for part in parts)
