"""What every prefix of a trace is worth: one forward pass answers from all of them at once.

After the prompt and its thinking, a branch for each cut holds the closer and the right answer.
A branch attends to what lies before its cut and to itself, and its positions go on from there, so
that it computes what closing THINK at that point would have computed:

    [ prompt | thinking ....................... ][ </think> answer ][ </think> answer ] ...
                        ^ cut 1        ^ cut 2      sees up to 1        sees up to 2

The probability of the right answer at each cut is then exact, not an estimate from samples. It
stands for all right answers where an answer has one written form, as the bundled tasks' have.

ANSWER holds neither closer nor opener: the engine suppresses the last id of either once the others
have come. Where a mark is one id it is left out here in the same way; where it is several, whether
its last one is suppressed depends on what came before, and nothing is left out.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metacog.model.base import Base
from metacog.model.bundle import MetacogModel
from metacog.model.gate import gate_in
from metacog.model.taps import Taps, taps

_MOST_PAIRS = 4_000_000
"""Pairs of tokens that one group's attention may hold, padding included."""


@dataclass(frozen=True)
class Trace:
    """One uncapped rollout's thinking and the answer that would be right."""

    prompt: tuple[int, ...]
    think: tuple[int, ...]
    answer: tuple[int, ...]
    """The right answer's ids, the end of the reply last."""
    cuts: tuple[int, ...]
    """Numbers of THINK tokens after which to close, in rising order."""


@dataclass(frozen=True)
class PrefixValues:
    """What closing at each cut of one trace leads to, and what the blocks held there."""

    cuts: tuple[int, ...]
    logprob: Float[Tensor, " cuts"]
    """Log-probability of the right answer when sampled at the temperature asked for."""
    greedy: Bool[Tensor, " cuts"]
    """Whether the greedy answer is the right one."""
    prompt_states: Float[Tensor, "layers hidden"]
    """At the last prompt token."""
    cut_states: Float[Tensor, "cuts layers hidden"]
    """At the last THINK token before each cut; at cut 0 the last prompt token's."""
    close_states: Float[Tensor, "cuts layers hidden"]
    """At the closer of each cut."""

    @property
    def need(self) -> int | None:
        """Fewest THINK tokens from which the answer is right and stays right; None if it ends wrong."""
        return self.need_at(self.cuts)

    def need_at(self, cuts: Collection[int]) -> int | None:
        """Return need as if only some of the cuts were there: those where THINK would be closed.

        A close in the middle of a line is answered from a line half done, so need is looked for at
        line and sentence ends, also where the values of every token are known.
        """
        right = [
            (cut, ok)
            for cut, ok in zip(self.cuts, self.greedy.tolist(), strict=True)
            if cut in cuts or cut == self.cuts[-1]
        ]
        if not right[-1][1]:
            return None
        wrong = [index for index, (_, ok) in enumerate(right) if not ok]
        return max(1, right[wrong[-1] + 1 if wrong else 0][0])

    def enough_at(self, sure: float) -> int | None:
        """Return the first cut from which the right answer keeps a probability of at least `sure`.

        None if the whole trace does not reach it. Need asks what the best answer is; this asks how
        often it would be sampled, so a guess that happens to be right is not enough.
        """
        chances = self.logprob.exp().tolist()
        short = [index for index, chance in enumerate(chances) if chance < sure]
        if short and short[-1] == len(chances) - 1:
            return None
        return max(1, self.cuts[short[-1] + 1 if short else 0])


@dataclass(frozen=True)
class PackedTraces:
    """A batch of traces with their branches, left-padded."""

    ids: Int[Tensor, "batch seq"]
    positions: Int[Tensor, "batch seq"]
    mask: Bool[Tensor, "batch 1 seq seq"]
    thinking: Bool[Tensor, "batch seq"]
    """Marks tokens strictly between opener and closer: where a gate acts."""
    prompt_end: Int[Tensor, " batch"]
    starts: tuple[int, ...]
    """Column of each row's first token."""


def pack(traces: Sequence[Trace], close: tuple[int, ...], pad: int) -> PackedTraces:
    """Lay traces and their branches out for one forward pass."""
    lengths = [_packed_length(trace, close) for trace in traces]
    width = max(lengths)
    batch = len(traces)
    ids = torch.full((batch, width), pad)
    positions = torch.zeros(batch, width, dtype=torch.long)
    mask = torch.eye(width, dtype=torch.bool).expand(batch, 1, width, width).clone()
    thinking = torch.zeros(batch, width, dtype=torch.bool)
    prompt_end = torch.zeros(batch, dtype=torch.long)
    starts = []
    for row, (trace, length) in enumerate(zip(traces, lengths, strict=True)):
        start = width - length
        starts.append(start)
        body = len(trace.prompt) + len(trace.think)
        ids[row, start:] = torch.tensor(_packed_ids(trace, close))
        positions[row, start : start + body] = torch.arange(body)
        mask[row, 0, start : start + body, start : start + body] = torch.ones(
            body, body, dtype=torch.bool
        ).tril()
        thinking[row, start + len(trace.prompt) : start + body] = True
        prompt_end[row] = start + len(trace.prompt) - 1
        size = len(close) + len(trace.answer)
        for branch, cut in enumerate(trace.cuts):
            first = start + body + branch * size
            seen = len(trace.prompt) + cut
            positions[row, first : first + size] = torch.arange(seen, seen + size)
            mask[row, 0, first : first + size, start : start + seen] = True
            mask[row, 0, first : first + size, first : first + size] = torch.ones(
                size, size, dtype=torch.bool
            ).tril()
    return PackedTraces(ids, positions, mask, thinking, prompt_end, tuple(starts))


def _packed_ids(trace: Trace, close: tuple[int, ...]) -> list[int]:
    return [*trace.prompt, *trace.think, *(close + trace.answer) * len(trace.cuts)]


def _packed_length(trace: Trace, close: tuple[int, ...]) -> int:
    branch = len(close) + len(trace.answer)
    return len(trace.prompt) + len(trace.think) + len(trace.cuts) * branch


@torch.no_grad()
def prefix_values(
    model: MetacogModel, traces: Sequence[Trace], *, temperature: float = 1.0
) -> list[PrefixValues]:
    """Return what closing at each cut leads to, with the gate on where the model has one.

    Args:
        model: The base, with layer and gate where it has them.
        traces: What to cut; they are laid out in groups of like length.
        temperature: At which answers would be sampled.
    """
    close = model.base.tags.think_close
    found: dict[int, PrefixValues] = {}
    for group in _groups([_packed_length(trace, close) for trace in traces]):
        values = _values(model, [traces[index] for index in group], temperature)
        found.update(zip(group, values, strict=True))
    return [found[index] for index in range(len(traces))]


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield indices of traces of like length whose attention fits into memory together."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[index] ** 2 > _MOST_PAIRS:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def read_packed(
    model: MetacogModel, traces: Sequence[Trace]
) -> tuple[PackedTraces, Float[Tensor, "batch seq hidden"], Taps]:
    """Run traces with their branches through the base, with the gate on where the model has one.

    Returns:
        How they were laid out, the last hidden states, and every block's.
    """
    base = model.base
    packed = pack(traces, base.tags.think_close, base.pad_id)
    gamma = _gamma(model, traces)
    with ExitStack() as stack:
        if model.gate is not None and gamma is not None:
            stack.enter_context(gate_in(base, model.gate)).set(gamma, packed.thinking)
        tapped = stack.enter_context(taps(base.blocks))
        hidden = base.hidden_states(packed.ids, mask=packed.mask, positions=packed.positions)
    return packed, hidden, tapped


def _values(model: MetacogModel, traces: Sequence[Trace], temperature: float) -> list[PrefixValues]:
    packed, hidden, tapped = read_packed(model, traces)
    base = model.base
    return [
        _values_of(base, trace, row, packed, hidden[row], tapped, temperature)
        for row, trace in enumerate(traces)
    ]


def _gamma(model: MetacogModel, traces: Sequence[Trace]) -> Float[Tensor, "batch hidden"] | None:
    """Read the prompts alone, as serving does before the first thought."""
    if model.gate is None or model.reader is None:
        return None
    packed = pack([replace(trace, think=(), cuts=()) for trace in traces], (), model.base.pad_id)
    with taps(model.base.blocks) as tapped:
        model.base.hidden_states(packed.ids, mask=packed.mask, positions=packed.positions)
    raw = model.reader.layer.read(tapped.at(packed.prompt_end), telemetry=False)
    return model.gate.gamma(raw.g, raw.plan_logits, raw.conf_raw)


def _values_of(
    base: Base,
    trace: Trace,
    row: int,
    packed: PackedTraces,
    hidden: Float[Tensor, "seq hidden"],
    tapped: Taps,
    temperature: float,
) -> PrefixValues:
    close, start = base.tags.think_close, packed.starts[row]
    body = start + len(trace.prompt) + len(trace.think)
    size = len(close) + len(trace.answer)
    closers = torch.tensor(
        [body + branch * size + len(close) - 1 for branch in range(len(trace.cuts))]
    )
    answer = torch.tensor(trace.answer)
    columns = closers.unsqueeze(1) + torch.arange(len(answer))
    logits = base.unembed(hidden[columns])
    logits[..., _never_answered(base)] = -torch.inf
    scaled = logits if temperature == 0 else logits / temperature
    chosen = scaled.log_softmax(-1).gather(-1, answer.expand(len(closers), -1).unsqueeze(-1))
    greedy = (logits.argmax(-1) == answer).all(-1)
    certain = torch.where(greedy, 0.0, -torch.inf)
    before = start + len(trace.prompt) - 1 + torch.tensor(trace.cuts)
    rows = torch.full_like(closers, row)
    return PrefixValues(
        cuts=trace.cuts,
        logprob=certain if temperature == 0 else chosen.squeeze(-1).sum(-1),
        greedy=greedy,
        prompt_states=tapped.gather(rows[:1], packed.prompt_end[row : row + 1])[0],
        cut_states=tapped.gather(rows, before),
        close_states=tapped.gather(rows, closers),
    )


def _never_answered(base: Base) -> list[int]:
    """Return the ids that no token of ANSWER may have, the first one behind the closer included."""
    return [mark[0] for mark in (base.tags.think_open, base.tags.think_close) if len(mark) == 1]
