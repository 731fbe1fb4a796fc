"""How fast the engine decodes, always beside a peer in the same process, runs in turn.

    ratio = tokens/s of the one / tokens/s of the other        of each pair; the median over pairs

Tokens are those of replies, their ends included; padding and what is written behind an end count for
nothing.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from transformers import ContinuousBatchingConfig

from metacog.config.model import DEFAULT_PLANS
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.decode.batch import left_padded_ids
from metacog.decode.engine import Engine, EngineSettings
from metacog.decode.settings import engine_settings, request_for
from metacog.decode.terms import NO_LIMIT
from metacog.model.base import Base
from metacog.model.bundle import MetacogModel
from metacog.model.gate import FeedbackGate, GateShape
from metacog.model.metacog import MetacogLayer
from metacog.model.shape import LayerShape
from metacog.records import Request
from metacog.text.render import render

_AS_LONG = 64
"""THINK tokens of every reply where only the speed of a token is compared."""

_PAGE = 64
"""Tokens of one page of continuous batching's cache."""

Contender = Callable[[], int]
"""Decodes the workload and returns how many tokens that were."""


@dataclass(frozen=True)
class Pair:
    """One run of each of two contenders, in tokens/s."""

    ours: float
    peer: float

    @property
    def ratio(self) -> float:
        """How many times as fast the first one is."""
        return self.ours / self.peer


def workload(model: MetacogModel, prompts: int, *, max_new_tokens: int) -> list[Request]:
    """Return uncapped requests whose replies end where they end: lengths are mixed."""
    found = []
    for index, question in enumerate(draw_questions(Split.VALIDATION, prompts, seed=11)):
        ids = render(model.base.tokenizer, [{"role": "user", "content": question.text}])
        request = request_for(model, tuple(ids), request_id=index, budget=NO_LIMIT)
        found.append(replace(request, max_new_tokens=max_new_tokens, top_p=1.0))
    return found


def with_untrained_layer(model: MetacogModel) -> MetacogModel:
    """Return the model with a fresh layer and gate of the usual shape: as fast as trained ones."""
    base, plans = model.base, DEFAULT_PLANS
    shape = LayerShape(
        hidden=base.hidden, num_layers=len(base.blocks), num_plans=len(plans), budget_min=1
    )
    inputs = shape.proj_dim + shape.num_plans + 1
    feedback = GateShape(hidden=base.hidden, inputs=inputs, layer=shape.num_layers - 1)
    layer, gate = MetacogLayer(shape).eval(), FeedbackGate(feedback).eval()
    return model.with_layer(layer, plans=plans, gate=gate)


def engine_run(
    model: MetacogModel, settings: EngineSettings, requests: Sequence[Request]
) -> Contender:
    """Return a run of the engine."""

    def run() -> int:
        return sum(len(reply.steps) for reply in Engine(model, settings).generate(requests))

    return run


def generate_run(base: Base, requests: Sequence[Request], *, rows: int) -> Contender:
    """Return a run of transformers' `generate` on batches of as many rows."""

    def run() -> int:
        count = 0
        for first in range(0, len(requests), rows):
            batch = requests[first : first + rows]
            ids, valid = left_padded_ids([request.prompt for request in batch], base.pad_id)
            generate: Any = base.model.generate
            written = generate(
                input_ids=ids,
                attention_mask=valid.long(),
                eos_token_id=sorted(base.tags.eos),
                **_sampling(base, batch[0]),
            )
            count += _written(written[:, ids.shape[1] :], base)
        return count

    return run


def _sampling(base: Base, request: Request) -> dict[str, Any]:
    """Return how transformers is to draw tokens as the engine draws them for a request."""
    return {
        "do_sample": True,
        "temperature": request.temperature,
        "top_k": 0,
        "top_p": 1.0,
        "max_new_tokens": request.max_new_tokens,
        "pad_token_id": base.pad_id,
    }


def continuous_run(base: Base, requests: Sequence[Request], *, rows: int) -> Contender:
    """Return a run of transformers' continuous batching, with room for as many rows.

    Left to itself it takes most of the free memory for its cache, and is many times slower.
    """
    longest = max(len(request.prompt) + request.max_new_tokens for request in requests)
    room = ContinuousBatchingConfig(
        page_size=_PAGE,
        num_blocks=rows * math.ceil(longest / _PAGE),
        max_requests_per_batch=rows,
        max_batch_tokens=4 * rows,
    )

    def run() -> int:
        config: Any = copy(base.model.generation_config)
        config.update(eos_token_id=min(base.tags.eos), **_sampling(base, requests[0]))
        model: Any = base.model
        prompts = [list(request.prompt) for request in requests]
        written = model.generate_batch(
            inputs=prompts,
            generation_config=config,
            continuous_batching_config=room,
            progress_bar=False,
        )
        return sum(len(reply.generated_tokens) for reply in written.values())

    return run


def decode_speeds(
    model: MetacogModel,
    *,
    prompts: int,
    rows: int,
    alone: int,
    pairs: int,
    max_new_tokens: int,
    continuous: bool = False,
) -> Iterator[tuple[str, Any]]:
    """Yield each figure of the decode benchmark, by name, as soon as it is known.

    speedup_batch       engine, bare, against `generate`, both with `rows` rows
    speedup_continuous  the same against continuous batching, its set-up included; where asked for
    speedup_single      the same, one prompt after another
    metacog_overhead    engine with layer, re-readings and gate against the same engine bare,
                        every reply with as many THINK tokens;
                        1 is no overhead; absent without a layer
    """
    base = MetacogModel(model.base, decoding=model.decoding)
    requests = workload(model, prompts, max_new_tokens=max_new_tokens)
    plain = engine_settings(base, rows=rows, revise=False)
    ours = engine_run(base, plain, requests)
    yield from _figures(
        "speedup_batch", paired(ours, generate_run(model.base, requests, rows=rows), pairs=pairs)
    )
    if continuous:
        peer = continuous_run(model.base, requests, rows=rows)
        yield from _figures("speedup_continuous", paired(ours, peer, pairs=pairs))
    single = _longest(base, plain, requests, alone)
    yield from _figures(
        "speedup_single",
        paired(
            _in_turn([engine_run(base, plain, [request]) for request in single]),
            _in_turn([generate_run(model.base, [request], rows=1) for request in single]),
            pairs=pairs,
        ),
    )
    if model.reader is not None:
        as_long = [replace(request, budget=_AS_LONG) for request in requests]
        layered, plain_run = (
            engine_run(each, _as_long(engine_settings(each, rows=rows, revise=False)), as_long)
            for each in (model, base)
        )
        yield from _figures("metacog_overhead", paired(layered, plain_run, pairs=pairs))


def _as_long(settings: EngineSettings) -> EngineSettings:
    """Return settings under which THINK takes its whole budget: a gate would make replies shorter."""
    return replace(settings, controller=replace(settings.controller, min_think=_AS_LONG))


def _figures(name: str, pairs: Sequence[Pair]) -> Iterator[tuple[str, Any]]:
    """Yield the median ratio, and all runs beside it."""
    yield name, round(median(pair.ratio for pair in pairs), 3)
    runs = [(round(pair.ours, 1), round(pair.peer, 1)) for pair in pairs]
    yield f"{name}_tokens_per_s", runs


def _longest(
    model: MetacogModel, settings: EngineSettings, requests: Sequence[Request], count: int
) -> list[Request]:
    """Return requests with long replies: of short ones the prompt is most of the time."""
    lengths = {r.request_id: len(r.steps) for r in Engine(model, settings).generate(requests)}
    return sorted(requests, key=lambda request: lengths[request.id])[-4 * count :: 4]


def _in_turn(runs: Sequence[Contender]) -> Contender:
    return lambda: sum(run() for run in runs)


@torch.no_grad()
def paired(ours: Contender, peer: Contender, *, pairs: int) -> list[Pair]:
    """Run two contenders in turn, once each to warm up, and return what each pair did."""
    ours()
    peer()
    return [Pair(_speed(ours), _speed(peer)) for _ in range(pairs)]


def _speed(run: Contender) -> float:
    started = time.perf_counter()
    count = run()
    return count / (time.perf_counter() - started)


def _written(rows: torch.Tensor, base: Base) -> int:
    """Count the tokens of each row up to its end."""
    ends = torch.isin(rows, torch.tensor(sorted(base.tags.eos)))
    first = torch.where(ends.any(1), ends.long().argmax(1) + 1, rows.shape[1])
    return int(first.sum())
