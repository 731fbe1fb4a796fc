"""A reply under teacher forcing with the gate in place, exactly as serving would run it.

The prompt is read first, by itself: it gives g, and g gives gamma. Then prompt and reply pass
together with the gate on the tokens that the engine gates. The prompt's own are not among them, so this
equals continuing from the prompt's cache, also where activation checkpointing keeps no cache.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metacog.data.collate import SegmentBatch, SegmentRow, in_segments
from metacog.data.padding import left_padded_rows, require_left_padded
from metacog.decode.batch import causal, left_padded_ids
from metacog.losses.report import Tally
from metacog.model.base import Base
from metacog.model.bundle import MetacogModel
from metacog.model.gate import GateState, gate_in
from metacog.model.outputs import LayerOutput
from metacog.model.taps import taps
from metacog.records import CloseReason, Generation, Segment
from metacog.text.segments import segment_metrics, split_ids


@dataclass(frozen=True)
class ReplyBatch:
    """Replies with their prompts.

    Raises:
        DataError: If padding stands anywhere but before a row's tokens.
    """

    prompts: tuple[tuple[int, ...], ...]
    ids: Int[Tensor, "batch seq"]
    valid: Bool[Tensor, "batch seq"]
    thinking: Bool[Tensor, "batch seq"]
    """Tokens strictly between opener and closer."""
    gated: Bool[Tensor, "batch seq"]
    """Tokens that the engine's gate acted on: THINK, and what of a closer it could not know yet."""
    trained: Bool[Tensor, "batch seq"]
    """Reply tokens that the model sampled from logits that nobody changed."""

    def __post_init__(self) -> None:
        require_left_padded(self.valid)


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
    acted = torch.zeros_like(batch.valid)
    for row, reply in enumerate(replies):
        acted[row, batch.ids.shape[1] - len(reply.steps) :] = torch.tensor(_gated_steps(reply))
    prompts = tuple(reply.prompt for reply in replies)
    return ReplyBatch(prompts, batch.ids, batch.valid, batch.think, acted, batch.trained)


def _gated_steps(reply: Generation) -> list[bool]:
    """Return which of a reply's tokens the engine took for THINK when they came.

    A closer of several ids is known only when it is whole, or when it is forced. So those that came
    by themselves were gated: all but the last where THINK closed itself, whether the last completed
    the closer or stood for an end of reply; all of them where a limit forced the rest.
    """
    segments = [step.segment for step in reply.steps]
    first = segments.count(Segment.THINK)
    closer = [step for step in reply.steps if step.segment is Segment.CLOSE]
    came = len(list(takewhile(lambda step: step.sampled, closer)))
    if reply.budget.close_reason in {CloseReason.NATURAL, None} or came == len(closer):
        came = max(0, came - 1)
    return [index < first + came for index in range(len(segments))]


def read_prompts(model: MetacogModel, prompts: Sequence[tuple[int, ...]]) -> LayerOutput:
    """Return the layer's reading of prompts, with its gradient; none reaches the base."""
    assert model.reader is not None, "a gate needs a layer that reads the prompt."
    return model.reader.layer.read(prompt_states(model, prompts))


@torch.no_grad()
def prompt_states(
    model: MetacogModel, prompts: Sequence[tuple[int, ...]]
) -> Float[Tensor, "prompts layers hidden"]:
    """Return every block's state at the last token of each prompt."""
    ids, valid = left_padded_ids(prompts, model.base.pad_id)
    with taps(model.base.blocks) as tapped:
        model.base.hidden_states(ids, mask=causal(valid), positions=positions_of(valid))
    return tapped.at(torch.full((len(prompts),), ids.shape[1] - 1))


@contextmanager
def gated(
    model: MetacogModel, reading: LayerOutput, acted: Bool[Tensor, "batch seq"]
) -> Iterator[GateState | None]:
    """Keep the gate in place, through forward and backward pass, where the model has one.

    Args:
        model: The model; without a gate nothing is done.
        reading: Of the prompts; gives gamma.
        acted: The tokens it acts on, `ReplyBatch.gated`.
    """
    if model.gate is None:
        yield None
        return
    with gate_in(model.base, model.gate) as state:
        state.set(model.gate.gamma(reading.g, reading.plan_logits, reading.conf_raw), acted)
        yield state


def gate_tallies(state: GateState | None, thinking: Bool[Tensor, "batch seq"]) -> dict[str, Tally]:
    """Return what the gate did in the last pass, by event name, over its THINK tokens.

    In training a switch may be partly on, and counts as that part. Without a gate or a THINK token
    there is no figure.
    """
    if state is None or state.on is None or state.relative is None or not bool(thinking.any()):
        return {}
    saturation = state.saturation().unsqueeze(1).expand(thinking.shape)
    figures = {"coverage": state.on, "norm": state.relative, "saturation": saturation}
    return {f"metacog/gate/{name}": Tally.of(v[thinking]) for name, v in figures.items()}


def padding_tallies(valid: Bool[Tensor, "batch seq"]) -> dict[str, Tally]:
    """Return the share of a batch's rows that are padded on the left alone, by event name."""
    return {"data/left_padding_ok": Tally.of(left_padded_rows(valid).float())}


def segment_tallies(replies: Sequence[Generation], base: Base) -> dict[str, Tally]:
    """Return tokens and share of THINK of each kind of marked span, by event name.

    A reply without such a span counts in neither; a kind that no reply has is absent.
    """
    found: dict[str, list[float]] = {}
    for reply in replies:
        parts = split_ids([step.token for step in reply.steps], base.tags)
        for name, value in segment_metrics(parts).items():
            if value is not None:
                found.setdefault(name, []).append(value)
    return {name: Tally.of(torch.tensor(values)) for name, values in found.items()}


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
