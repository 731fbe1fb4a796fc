"""Requests, replies and labels that several invariants look at."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from metacog.config.decoding import BudgetConfig, DecodingConfig
from metacog.decode.batch import Batch
from metacog.decode.budget import ControllerSettings
from metacog.decode.engine import Engine, EngineSettings
from metacog.model.bundle import MetacogModel
from metacog.records import (
    BudgetReport,
    BudgetSource,
    Generation,
    Request,
    Segment,
    Step,
)
from metacog.train.features import Features
from metacog.train.gated import gated, read_prompts, reply_batch, reply_logits

Prompts = Sequence[tuple[int, ...]]

RESERVE = 6
CONTROLS = ControllerSettings(answer_reserve=RESERVE, debug=True)
SHORT = DecodingConfig(budget=BudgetConfig(min_tokens=2, max_tokens=24, answer_reserve=RESERVE))
"""Replies of at most 31 tokens."""


def settings(rows: int = 16, **changes: object) -> EngineSettings:
    return replace(EngineSettings(rows=rows, controller=CONTROLS), **changes)


def mixed_requests(prompts: Prompts, count: int = 12) -> list[Request]:
    """Requests that differ in everything a request can differ in."""
    budgets = (None, 0, 1, 7, -1, 12)
    plans = (None, "verify", None, "direct", "outline")
    temperatures = (1.0, 0.7, 0.0, 1.3)
    return [
        Request(
            id=1000 + index,
            prompt=prompts[index % len(prompts)],
            budget=budgets[index % len(budgets)],
            plan=plans[index % len(plans)],
            seed=index // 4,
            temperature=temperatures[index % len(temperatures)],
            top_p=0.9 if index % 3 == 2 else 1.0,
            repetition_penalty=1.3 if index % 4 == 1 else 1.0,
            max_new_tokens=22 + 3 * (index % 4),
            max_answer_tokens=4 + index % 3,
        )
        for index in range(count)
    ]


def answered(
    model: MetacogModel, requests: Iterable[Request], how: EngineSettings
) -> dict[int, Generation]:
    return {reply.request_id: reply for reply in Engine(model, how).generate(requests)}


def ids_of(reply: Generation) -> list[int]:
    return [step.token for step in reply.steps]


def engine_logits(
    model: MetacogModel, requests: Sequence[Request], how: EngineSettings
) -> list[tuple[Generation, Tensor]]:
    """Decode requests side by side and keep the logits before each of their tokens."""
    batch = Batch(model, how, max(len(r.prompt) + r.max_new_tokens for r in requests), how.rows)
    batch.admit(requests)
    seen: dict[int, list[Tensor]] = {request.id: [] for request in requests}
    found = []
    while batch.running:
        for slot in range(batch.running):
            seen[batch.rows.of(slot).request.id].append(batch.logits[slot].clone())
        batch.choose_tokens()
        found += [(reply, torch.stack(seen[reply.request_id])) for reply in batch.retire()]
        if batch.running:
            batch.forward()
    return found


@torch.no_grad()
def forced_logits(model: MetacogModel, replies: Sequence[Generation]) -> list[Tensor]:
    """The logits before each token of whole replies, in one pass without a cache."""
    batch = reply_batch(replies, model.base.pad_id)
    with gated(model, read_prompts(model, batch.prompts), batch.gated):
        logits, _, _ = reply_logits(model, batch)
    return list(logits.split([len(reply.steps) for reply in replies]))


def written(prompt: tuple[int, ...], *parts: tuple[Segment, Sequence[int]]) -> Generation:
    """A reply that nobody decoded, all of its tokens sampled."""
    tokens = [(segment, token) for segment, ids in parts for token in ids]
    steps = tuple(
        Step(0, index, token, segment, sampled=True, altered=False, logprob=0.0)
        for index, (segment, token) in enumerate(tokens)
    )
    used = sum(segment is Segment.THINK for segment, _ in tokens)
    report = BudgetReport(None, None, None, used, None, BudgetSource.UNCAPPED)
    return Generation(0, prompt, steps, report, None, None, None, finished=True)


def random_features(prompts: int = 6, points: int = 4, **columns: Tensor) -> Features:
    """Rows of random states with every label known, but for those that are given."""
    made = torch.Generator().manual_seed(3)
    rows = prompts * points
    need = torch.randint(1, 20, (prompts,), generator=made).float()
    used = torch.arange(points).repeat(prompts).float()
    prompt = torch.arange(prompts).repeat_interleave(points)
    known = {
        "prompt_states": torch.randn(prompts, 3, 32, generator=made),
        "need": need,
        "natural": need + 3,
        "closed": torch.ones(prompts, dtype=torch.bool),
        "family": torch.zeros(prompts, dtype=torch.long),
        "level": torch.zeros(prompts, dtype=torch.long),
        "prompt_length": torch.full((prompts,), 9),
        "question": torch.arange(prompts),
        "plan": torch.arange(prompts) % 4,
        "point_states": torch.randn(rows, 3, 32, generator=made),
        "prompt": prompt,
        "used": used,
        "line_end": torch.ones(rows, dtype=torch.bool),
        "needed": (need[prompt] - used).clamp(min=0),
        "ready": torch.rand(rows, generator=made),
        "hope": torch.rand(prompts, generator=made)[prompt],
        "right": torch.zeros(0),
    }
    return Features(**{**known, **columns})


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """A copy of everything a module holds."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def moved(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    """The names of the tensors that are not bit for bit what they were."""
    now = module.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, now[name])}
