"""`metacog generate`: one reply, with what the layer read and what became of the budget."""

import json
from typing import Annotated

import typer

from metacog.cli.options import BaseName, LayerPath, ModelName
from metacog.errors import InputError


def generate(
    model: ModelName,
    prompt: Annotated[str, typer.Argument(help="The question.")],
    layer: LayerPath = None,
    base: BaseName = None,
    budget: Annotated[
        str, typer.Option(help="auto, or THINK tokens; 0 none, -1 no limit.")
    ] = "auto",
    plan: Annotated[str, typer.Option(help="auto, or the name of a plan.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the sampling noise.")] = 0,
    temperature: Annotated[
        float | None, typer.Option(help="Divisor of the logits; by default the model's own.")
    ] = None,
    stream: Annotated[bool, typer.Option(help="Print tokens as they come.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Answer one question, showing reading, thinking and answer."""
    tokens = parse_budget(budget)
    from metacog.cli.reply import as_data, ask, print_reply, print_stream
    from metacog.model.bundle import load_model

    loaded = load_model(model, layer=layer, base_path=base)
    chosen = None if plan == "auto" else plan
    events = ask(loaded, prompt, budget=tokens, plan=chosen, seed=seed, temperature=temperature)
    if as_json:
        typer.echo(json.dumps(as_data(loaded, events), indent=2))
    elif stream:
        print_stream(loaded, events)
    else:
        print_reply(loaded, events)


def parse_budget(text: str) -> int | None:
    """Return a budget in tokens, or None for `auto`.

    Raises:
        InputError: If it is neither, or below -1.
    """
    if text == "auto":
        return None
    message = f"Wanted --budget auto or a whole number of tokens (-1 for no limit), got {text!r}."
    try:
        budget = int(text)
    except ValueError as error:
        raise InputError(message) from error
    if budget < -1:
        raise InputError(message)
    return budget
