"""A reply under teacher forcing with the gate in place, exactly as serving would run it.

The prompt is read first, by itself: it gives g, and g gives gamma. Then prompt and reply pass
together with the gate on the reply's THINK tokens. The prompt's own tokens are not gated, so this
equals continuing from the prompt's cache, also where activation checkpointing keeps no cache.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metacog.data.collate import SegmentBatch, SegmentRow, in_segments
from metacog.decode.batch import causal, left_padded_ids
from metacog.model.base import gated_module
from metacog.model.bundle import MetacogModel
from metacog.model.gate import GateState, gate
from metacog.model.outputs import LayerOutput
from metacog.model.taps import taps
from metacog.records import Generation


@dataclass(frozen=True)
class ReplyBatch:
    """Replies with their prompts, left-padded."""

    prompts: tuple[tuple[int, ...], ...]
    ids: Int[Tensor, "batch seq"]
    valid: Bool[Tensor, "batch seq"]
    thinking: Bool[Tensor, "batch seq"]
    """Tokens strictly between opener and closer."""
    trained: Bool[Tensor, "batch seq"]
    """Reply tokens that the model sampled from logits that nobody changed."""


def segment_batch(replies: Sequence[Generation], pad: int) -> SegmentBatch:
    """Lay replies out with a mask for each segment, and one for what is learned."""
    rows = [
        SegmentRow(
            prompt=r.prompt,
            reply=tuple(step.token for step in r.steps),
            segments=tuple(step.segment for step in r.steps),
            trained=tuple(step.sampled and not step.altered for step in r.steps),
        )
        for r in replies
    ]
    return in_segments(rows, pad)


def reply_batch(replies: Sequence[Generation], pad: int) -> ReplyBatch:
    """Lay replies out for teacher forcing."""
    batch = segment_batch(replies, pad)
    prompts = tuple(reply.prompt for reply in replies)
    return ReplyBatch(prompts, batch.ids, batch.valid, batch.think, batch.trained)


def read_prompts(model: MetacogModel, prompts: Sequence[tuple[int, ...]]) -> LayerOutput:
    """Return the layer's reading of prompts, with its gradient; none reaches the base."""
    assert model.reader is not None, "a gate needs a layer that reads the prompt."
    ids, valid = left_padded_ids(prompts, model.base.pad_id)
    with torch.no_grad(), taps(model.base.blocks) as tapped:
        model.base.hidden_states(ids, mask=causal(valid), positions=positions_of(valid))
    states = tapped.at(torch.full((len(prompts),), ids.shape[1] - 1))
    return model.reader.layer.read(states)


@contextmanager
def gated(
    model: MetacogModel, reading: LayerOutput, thinking: Bool[Tensor, "batch seq"]
) -> Iterator[GateState | None]:
    """Keep the gate in place, through forward and backward pass, where the model has one."""
    if model.gate is None:
        yield None
        return
    shape = model.gate.shape
    module = gated_module(model.base.blocks[shape.layer], shape.site)
    with gate(module, model.gate) as state:
        state.set(model.gate.gamma(reading.g, reading.plan_logits, reading.conf_raw), thinking)
        yield state


def gate_metrics(state: GateState | None, thinking: Bool[Tensor, "batch seq"]) -> dict[str, float]:
    """Return what the gate did in the last pass, by event name: means over its THINK tokens.

    In training a switch may be partly on, and counts as that part. Without a gate or a THINK token
    there is no figure.
    """
    if state is None or state.on is None or state.relative is None or not bool(thinking.any()):
        return {}
    saturation = state.saturation().unsqueeze(1).expand(thinking.shape)
    figures = {"coverage": state.on, "norm": state.relative, "saturation": saturation}
    return {f"metacog/gate/{name}": v[thinking].mean().item() for name, v in figures.items()}


def reply_logits(
    model: MetacogModel, batch: ReplyBatch
) -> tuple[Float[Tensor, "tokens vocab"], Int[Tensor, " tokens"], Bool[Tensor, " tokens"]]:
    """Return the logits before each reply token, the tokens, and which of them are trained.

    Call it inside `gated`, which decides whether the gate is in place.
    """
    hidden = model.base.hidden_states(
        batch.ids, mask=causal(batch.valid), positions=positions_of(batch.valid)
    )
    lengths = torch.tensor([len(prompt) for prompt in batch.prompts])
    first = batch.valid.long().argmax(dim=1) + lengths
    columns = torch.arange(batch.ids.shape[1])
    reply = columns.unsqueeze(0) >= first.unsqueeze(1)
    logits = model.base.unembed(hidden[:, :-1][reply[:, 1:]])
    return logits, batch.ids[reply], batch.trained[reply]


def positions_of(valid: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """Return each token's position in its row, padding not counted."""
    return (valid.long().cumsum(1) - 1).clamp(min=0)
