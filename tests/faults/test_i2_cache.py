"""I2: decoding through the cache is a full recompute, and a prompt may be read in any chunks."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from metacog.model.bundle import MetacogModel
from metacog.model.cache import growing_cache
from metacog.model.taps import taps
from tests.invariants.replies import engine_logits, forced_logits, mixed_requests, settings

TOLERANCE = 1e-4
Prompts = tuple[tuple[int, ...], ...]


def test_decoding_through_the_cache_with_the_gate_on(
    tiny_model: MetacogModel, tiny_prompts: Prompts
) -> None:
    decoded = engine_logits(tiny_model, mixed_requests(tiny_prompts, 12), settings(rows=12))
    full = forced_logits(tiny_model, [reply for reply, _ in decoded])
    gated = [reply.gate.coverage for reply, _ in decoded if reply.gate and reply.think]
    assert any(gated), "the gate did act"
    for (reply, cached), recomputed in zip(decoded, full, strict=True):
        assert len(cached) == len(reply.steps)
        torch.testing.assert_close(cached, recomputed, atol=TOLERANCE, rtol=0)


@torch.no_grad()
def read(model: MetacogModel, prompt: tuple[int, ...], cuts: tuple[int, ...]) -> list[Tensor]:
    """Return logits and reading after a prompt that is read in chunks."""
    ids, cache = torch.tensor([prompt]), growing_cache()
    whole = torch.ones(len(prompt), len(prompt), dtype=torch.bool).tril()[None, None]
    edges = (0, *cuts, len(prompt))
    with taps(model.base.blocks) as states:
        for begin, end in pairwise(edges):
            logits = model.base.logits(
                ids[:, begin:end],
                mask=whole[:, :, begin:end, :end],
                positions=torch.arange(begin, end)[None],
                cache=cache,
            )
        last = states.at(torch.tensor([edges[-1] - edges[-2] - 1]))
    assert model.reader is not None
    assert model.gate is not None
    reading = model.reader.read(last, telemetry=False)
    raw = reading.raw
    gamma = model.gate.gamma(raw.g, raw.plan_logits, raw.conf_raw)
    return [logits, reading.plan, reading.budget_tokens, reading.confidence, gamma]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_a_prompt_in_chunks_is_read_as_a_whole(
    tiny_model: MetacogModel, tiny_prompts: Prompts, chunk: int
) -> None:
    for prompt in tiny_prompts:
        cuts = tuple(range(chunk, len(prompt), chunk))
        wanted, found = read(tiny_model, prompt, ()), read(tiny_model, prompt, cuts)
        for one, other in zip(wanted, found, strict=True):
            torch.testing.assert_close(other, one, atol=TOLERANCE, rtol=1e-4)
