"""How fast the engine decodes, always beside a peer in the same process, runs in turn.

    ratio = tokens/s of the one / tokens/s of the other        of each pair; the median over pairs

Tokens are those of replies, their ends included; padding and what is written behind an end count for
nothing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.decode.batch import left_padded_ids
from metacog.decode.engine import Engine, EngineSettings
from metacog.decode.settings import engine_settings, request_for
from metacog.decode.terms import NO_LIMIT
from metacog.model.base import Base
from metacog.model.bundle import MetacogModel
from metacog.records import Request
from metacog.text.render import render

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
                do_sample=True,
                temperature=batch[0].temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=batch[0].max_new_tokens,
                eos_token_id=sorted(base.tags.eos),
                pad_token_id=base.pad_id,
            )
            count += _written(written[:, ids.shape[1] :], base)
        return count

    return run


def bare(model: MetacogModel) -> MetacogModel:
    """Return the base alone: neither layer nor gate."""
    return MetacogModel(model.base, decoding=model.decoding)


def layered_settings(model: MetacogModel, *, rows: int) -> EngineSettings:
    """Return the engine's settings as served, but no budget acts: replies are as long as without."""
    return engine_settings(model, rows=rows, revise=False)


@torch.no_grad()
def paired(ours: Contender, peer: Contender, *, pairs: int) -> list[Pair]:
    """Run two contenders in turn, once each to warm up, and return what each pair did."""
    ours()
    peer()
    return [Pair(_speed(ours), _speed(peer)) for _ in range(pairs)]


def middle(pairs: Sequence[Pair]) -> Pair:
    """Return the pair whose ratio is the median, the lower of two."""
    return sorted(pairs, key=lambda pair: pair.ratio)[(len(pairs) - 1) // 2]


def median_ratio(pairs: Sequence[Pair]) -> float:
    """Return the median of the pairs' ratios."""
    return median(pair.ratio for pair in pairs)


def _speed(run: Contender) -> float:
    started = time.perf_counter()
    count = run()
    return count / (time.perf_counter() - started)


def _written(rows: torch.Tensor, base: Base) -> int:
    """Count the tokens of each row up to its end."""
    ends = torch.isin(rows, torch.tensor(sorted(base.tags.eos)))
    first = torch.where(ends.any(1), ends.long().argmax(1) + 1, rows.shape[1])
    return int(first.sum())
