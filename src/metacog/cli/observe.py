"""`metacog observe`: the telemetry of one reply, a line for the reading and for every token."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from metacog.cli.options import BaseName, LayerPath, ModelName


def observe(
    model: ModelName,
    prompt: Annotated[str, typer.Argument(help="The question.")],
    jsonl: Annotated[Path, typer.Option(help="File to write; must not exist.")],
    layer: LayerPath = None,
    base: BaseName = None,
    budget: Annotated[
        str, typer.Option(help="auto, or THINK tokens; 0 none, -1 no limit.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the sampling noise.")] = 0,
) -> None:
    """Write per-layer, per-token telemetry of one reply."""
    from metacog.cli.generate import parse_budget
    from metacog.cli.reply import ask, reply_of
    from metacog.errors import InputError
    from metacog.model.bundle import load_model
    from metacog.telemetry.files import write_text

    tokens = parse_budget(budget)
    if jsonl.exists():
        raise InputError(f"Wanted a new file for --jsonl, but {jsonl} exists. Name another.")
    loaded = load_model(model, layer=layer, base_path=base)
    reply = reply_of(ask(loaded, prompt, budget=tokens, seed=seed))
    changes = iter(reply.gate.per_token if reply.gate is not None else ())
    lines: list[dict[str, object]] = [
        {
            "kind": "reading",
            "reading": asdict(reply.reading) if reply.reading is not None else None,
            "plan": reply.plan,
            "budget": asdict(reply.budget),
            "gate": asdict(reply.gate) if reply.gate is not None else None,
        }
    ]
    for step in reply.steps:
        change = next(changes, None) if step.segment == "think" else None
        text = loaded.base.decode([step.token], with_control=True)
        lines.append({"kind": "token", **asdict(step), "text": text, "gate_change": change})
    write_text(jsonl, "".join(json.dumps(line) + "\n" for line in lines))
    typer.echo(str(jsonl.absolute()))
