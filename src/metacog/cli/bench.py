"""`metacog bench`: speeds, each as a ratio to a peer that ran in turn with it."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metacog.cli.options import BaseName, LayerPath
from metacog.errors import ConfigError

if TYPE_CHECKING:
    from metacog.train.speed import TrlSteps

app = typer.Typer(help="Measure speed, side by side with a peer.", no_args_is_help=True)


@app.command(name="decode")
def decode(
    model: Annotated[
        str, typer.Argument(help="Bundled name, directory of a model, or hub id.")
    ] = "nano",
    layer: LayerPath = None,
    base: BaseName = None,
    prompts: Annotated[
        int, typer.Option(min=1, help="Prompts of the mixed-length workload.")
    ] = 512,
    rows: Annotated[int, typer.Option(min=1, help="Rows that run side by side.")] = 64,
    alone: Annotated[int, typer.Option(min=1, help="Prompts decoded one at a time.")] = 6,
    pairs: Annotated[int, typer.Option(min=1, help="Runs of each contender.")] = 3,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest reply, in tokens.")] = 256,
    continuous: Annotated[
        bool, typer.Option(help="Run transformers' continuous batching too.")
    ] = False,
    untrained_layer: Annotated[
        bool, typer.Option(help="Time a fresh layer and gate: for a base that has none.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch; its own choice by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the engine with transformers' generate, and itself with and without the layer."""
    import torch

    from metacog.eval.speed import decode_speeds, with_untrained_layer
    from metacog.model.bundle import load_model

    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_model(model, layer=layer, base_path=base)
    if untrained_layer:
        loaded = with_untrained_layer(loaded)
    found: dict[str, Any] = {
        "model": model,
        "untrained_layer": untrained_layer,
        "prompts": prompts,
        "rows": rows,
        "pairs": pairs,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    for name, value in decode_speeds(
        loaded,
        prompts=prompts,
        rows=rows,
        alone=alone,
        pairs=pairs,
        max_new_tokens=max_new_tokens,
        continuous=continuous,
    ):
        found[name] = value
        typer.echo(f"{name}: {value}", err=True)
    if as_json:
        typer.echo(json.dumps(found, indent=2, allow_nan=False))


@app.command(name="train")
def train(
    model: Annotated[
        str, typer.Argument(help="Bundled name, directory of a base, or hub id.")
    ] = "nano",
    batch: Annotated[int, typer.Option(min=1, help="Traces of a step.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each run.")] = 10,
    pairs: Annotated[int, typer.Option(min=1, help="Runs of each contender.")] = 5,
    trl: Annotated[bool, typer.Option(help="Compare with TRL's SFTTrainer, too.")] = True,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare a training step with a bare supervised one, and with TRL's."""
    import torch

    from metacog.model.places import resolve_model
    from metacog.train.speed import Work, train_speeds

    torch.set_num_threads(threads)
    work = Work(resolve_model(model).base, batch, steps)
    found: dict[str, Any] = {
        "model": model,
        "batch": batch,
        "steps": steps,
        "pairs": pairs,
        "threads": threads,
        "torch": torch.__version__,
    }
    for name, value in train_speeds(work, pairs=pairs, trl=_trl_steps() if trl else None):
        found[name] = value
        typer.echo(f"{name}: {value}", err=True)
    if as_json:
        typer.echo(json.dumps(found, indent=2, allow_nan=False))


@app.command(name="serve")
def serve(
    model: Annotated[
        str, typer.Argument(help="Bundled name, directory of a model, or hub id.")
    ] = "nano",
    prompts: Annotated[int, typer.Option(min=1, help="Questions of each run.")] = 64,
    together: Annotated[int, typer.Option(min=1, help="Requests that are under way at once.")] = 16,
    max_tokens: Annotated[int, typer.Option(min=16, help="Longest reply, in tokens.")] = 256,
    pairs: Annotated[int, typer.Option(min=1, help="Runs of each contender.")] = 3,
    continuous: Annotated[bool, typer.Option(help="Let the peer batch continuously.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the server with `transformers serve` on the same base, both without a budget."""
    from statistics import median

    from metacog.model.places import resolve_model
    from metacog.serve.speed import free_port, load_of, measured, ours, peer, running

    base = resolve_model(model).base
    load = load_of(prompts, together=together, max_tokens=max_tokens)
    runs = []
    for _ in range(pairs):
        port, other = free_port(), free_port()
        with running(ours(model, together, port), port) as url:
            mine = measured(url, "bench", load, {"thinking_token_budget": -1})
        with running(peer(base, other, continuous=continuous), other) as url:
            theirs = measured(url, str(base), load, {})
        runs.append((mine, theirs))
        typer.echo(f"{mine.throughput:.0f} against {theirs.throughput:.0f} tokens/s", err=True)
    found: dict[str, Any] = {
        "model": model,
        "prompts": prompts,
        "together": together,
        "max_tokens": max_tokens,
        "pairs": pairs,
        "continuous": continuous,
        "tokens_per_s": median(mine.throughput for mine, _ in runs),
        "peer_tokens_per_s": median(theirs.throughput for _, theirs in runs),
        "throughput_vs_transformers_serve": median(a.throughput / b.throughput for a, b in runs),
        "ttft_p50_s": median(mine.ttft_p50 for mine, _ in runs),
        "peer_ttft_p50_s": median(theirs.ttft_p50 for _, theirs in runs),
        "ttft_p50_ratio": median(a.ttft_p50 / b.ttft_p50 for a, b in runs),
    }
    if as_json:
        typer.echo(json.dumps(found, indent=2, allow_nan=False))


def _trl_steps() -> "TrlSteps":
    try:
        from metacog.train.peer import trl_steps
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Wanted the package trl to compare with, found none. Install it with pip install "
            "'metacog[dev]', or leave it out with --no-trl."
        ) from error
    return trl_steps
