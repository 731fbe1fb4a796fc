"""`metacog eval`: accuracy for tokens, beside everything it is compared with."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metacog.cli.options import BaseName, LayerPath, ModelName

if TYPE_CHECKING:
    from metacog.data.tasks.splits import Split


Against = Annotated[
    str | None,
    typer.Option(help="Model whose bare base it is compared with, if not its own."),
]
Questions = Annotated[int, typer.Option(min=1, help="Test questions.")]
Matching = Annotated[
    int, typer.Option(min=1, help="Calibration questions on which baselines are matched.")
]
Seeds = Annotated[list[int] | None, typer.Option(help="Sampling seeds; repeat it.")]
Tasks = Annotated[list[str] | None, typer.Option(help="Question families; repeat it.")]
Budgets = Annotated[
    str, typer.Option(help="Budgets to run: auto,none,16,32,64; auto and none always are.")
]
RowsFile = Annotated[Path | None, typer.Option(help="File for a JSON line for every reply.")]
Proof = Annotated[bool, typer.Option(help="Measure what the P table holds beside the arms.")]
Readings = Annotated[
    int, typer.Option(min=10, help="Questions of the rows on what the layer knows.")
]
Fit = Annotated[
    int, typer.Option(min=100, help="Layer-train questions that their baselines are fitted to.")
]
Plans = Annotated[
    int, typer.Option(min=0, help="Questions on which every plan is forced; 0 forces none.")
]
Trials = Annotated[
    int, typer.Option(min=0, help="Questions with trial answers and votes; 0 makes none.")
]
Peers = Annotated[
    int, typer.Option(min=0, help="Questions that the gate's peers of P11 learn from; 0: none.")
]
Trained = Annotated[
    str | None, typer.Option(help="Model whose base was trained too, for P1 and P10.")
]
Frozen = Annotated[
    str | None, typer.Option(help="Model with a frozen base, for P2; its gate stays off.")
]
Margin = Annotated[
    int, typer.Option(min=1, help="Questions of P1, P2, P9 and P10: half a point takes many.")
]
SplitName = Annotated[
    str, typer.Option(help="test, or validation while something is being chosen.")
]
ReportPath = Annotated[Path | None, typer.Option(help="Directory for a page with plots.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def evaluate(
    model: ModelName,
    layer: LayerPath = None,
    base: BaseName = None,
    against: Against = None,
    n: Questions = 1000,
    matching: Matching = 1000,
    seeds: Seeds = None,
    tasks: Tasks = None,
    budgets: Budgets = "",
    rows: RowsFile = None,
    proof: Proof = True,
    readings: Readings = 1000,
    fit: Fit = 4000,
    plans: Plans = 300,
    trials: Trials = 200,
    peers: Peers = 0,
    margin: Margin = 12_000,
    trained: Trained = None,
    frozen: Frozen = None,
    split: SplitName = "test",
    report: ReportPath = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model with its layer against all it is compared with: arms and the P table."""
    caps = parse_caps(budgets)
    from metacog.cli.margins import load_beside
    from metacog.cli.measure import Size, measure
    from metacog.cli.measure import report as write_report
    from metacog.cli.proof import ProofSize, prove
    from metacog.data.tasks.families import FAMILIES
    from metacog.eval.rows import write_rows
    from metacog.model.bundle import load_model

    size = Size(
        n=n,
        matching=matching,
        seeds=tuple(seeds or (0, 1, 2)),
        families=tuple(tasks or FAMILIES),
        split=parse_split(split),
    )
    loaded = load_model(model, layer=layer, base_path=base)
    beside = load_beside(against=against, trained=trained, frozen=frozen)
    found, summary = measure(loaded, size, caps=caps, against=beside.against)
    if proof:
        wanted = ProofSize(
            fit=fit, margin=margin, test=readings, plans=plans, peers=peers, trials=trials
        )
        summary |= prove(loaded, found, summary, size, wanted, beside=beside)
    if rows is not None:
        write_rows(rows, found.rows)
    if report is not None:
        page = write_report(report, found, summary, loaded)
        typer.echo(f"report: {page.absolute()}", err=True)
    _tell(summary, as_json=as_json)


def _tell(summary: dict[str, Any], *, as_json: bool) -> None:
    from metacog.cli.curve import print_curve
    from metacog.eval.proof.table import lines

    if as_json:
        typer.echo(json.dumps(summary, indent=2, allow_nan=False))
        return
    typer.echo("\n".join(lines(summary)))
    print_curve(summary)


def parse_split(text: str) -> "Split":
    """Return the split of a name.

    Raises:
        InputError: If it is neither test nor validation: the others have been trained on or fitted to.
    """
    from metacog.data.tasks.splits import Split
    from metacog.errors import InputError

    if text not in {Split.TEST, Split.VALIDATION}:
        raise InputError(f"Wanted --split test or validation, got {text!r}.")
    return Split(text)


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
