"""I2: decoding through the cache is a full recompute, and a prompt may be read in any chunks."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from metacog.model.bundle import MetacogModel
from metacog.model.cache import growing_cache
from metacog.model.taps import taps
from metacog.records import Generation
from metacog.train.gated import gated, read_prompts, reply_batch
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


@torch.no_grad()
def gated_in_chunks(model: MetacogModel, reply: Generation, chunk: int) -> Tensor:
    """Return the logits before each token of a reply, read after its prompt in chunks, gate on."""
    batch = reply_batch([reply], model.base.pad_id)
    ids, acted, length = batch.ids, batch.gated, batch.ids.shape[1]
    whole = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    edges = [0, *range(len(reply.prompt), length, chunk), length]
    cache, found = growing_cache(), []
    with gated(model, read_prompts(model, [reply.prompt]), acted) as state:
        assert state is not None
        assert state.gamma is not None
        gamma = state.gamma
        for begin, end in pairwise(edges):
            state.set(gamma, acted[:, begin:end])
            output = model.base.model(
                input_ids=ids[:, begin:end],
                attention_mask=whole[:, :, begin:end, :end],
                position_ids=torch.arange(begin, end)[None],
                past_key_values=cache,
            )
            found.append(output.logits[0])
    return torch.cat(found)[len(reply.prompt) - 1 : -1]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_a_reply_in_chunks_with_the_gate_on(
    tiny_model: MetacogModel, tiny_prompts: Prompts, chunk: int
) -> None:
    decoded = engine_logits(tiny_model, mixed_requests(tiny_prompts, 12), settings(rows=12))
    thinking = [reply for reply, _ in decoded if len(reply.think) > chunk]
    assert thinking
    for reply in thinking:
        wanted = forced_logits(tiny_model, [reply])[0]
        found = gated_in_chunks(tiny_model, reply, chunk)
        torch.testing.assert_close(found, wanted, atol=TOLERANCE, rtol=0)
