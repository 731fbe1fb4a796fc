"""`metacog demo`: train a layer, measure it, write a report, answer a question of each domain."""

from pathlib import Path
from typing import Annotated

import typer

_RECIPE = Path("recipes/run.yaml")


def demo(
    recipe: Annotated[Path, typer.Option(help="Recipe of the layer.")] = _RECIPE,
    n: Annotated[int, typer.Option(min=1, help="Test questions.")] = 200,
) -> None:
    """Train a layer on the bundled base from a small sample and show what it does."""
    from metacog.cli.curve import print_curve
    from metacog.cli.measure import Size, measure, report
    from metacog.cli.reply import ask, print_reply
    from metacog.cli.train import run_recipe
    from metacog.data.tasks.drawing import draw_questions
    from metacog.data.tasks.families import FAMILIES, Domain
    from metacog.data.tasks.splits import Split
    from metacog.model.bundle import load_model

    size = Size(n=n, matching=n, seeds=(0,))
    run, _ = run_recipe(recipe, ())
    model = load_model(run.path / "final")
    found, summary = measure(model, size)
    print_curve(summary)
    page = report(run.report, found, summary, model)
    for domain in Domain:
        families = [name for name, family in FAMILIES.items() if family.domain is domain]
        question = draw_questions(Split.TEST, 1, seed=1, families=families)[0]
        typer.echo(f"\n{domain.value}: {question.text}\n(the answer is {question.answer})")
        print_reply(model, ask(model, question.text))
    typer.echo(f"\nreport: {page.absolute()}\nlayer:  {(run.path / 'final').absolute()}")
