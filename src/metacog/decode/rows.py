"""The running rows of a batch: what each is, how far it has come, and what it has written."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metacog.decode.array_rule import SEGMENTS, Codes, Ints
from metacog.decode.opening import Opening
from metacog.decode.sampling import Reals, Repetition, streams
from metacog.decode.terms import segments_of
from metacog.model.gate import SHORTEST, GateState
from metacog.records import GateReport, Request, Rereading, Segment, Step

SAMPLED, ALTERED = 1, 2
"""Bits of a token's flags."""

THINK = SEGMENTS.index(Segment.THINK)
"""Code of THINK among the controller's segments."""


@dataclass
class RowMeta:
    """What is known of one running row beside its arrays."""

    request: Request
    opening: Opening
    rereadings: dict[int, Rereading] = field(default_factory=dict)
    """By index of the token after which the layer read again."""


class Rows:
    """Arrays with a place for each slot; the first `used` slots are running."""

    def __init__(
        self, capacity: int, longest: int, hidden: int, vocab: int, device: torch.device
    ) -> None:
        self.used = 0
        self.seen = torch.zeros(capacity, vocab, dtype=torch.bool, device=device)
        self.meta: list[RowMeta | None] = [None] * capacity
        self.token = torch.zeros(capacity, dtype=torch.long, device=device)
        self.length = np.zeros(capacity, dtype=np.int64)
        self.index = np.zeros(capacity, dtype=np.int64)
        self.stream = np.zeros(capacity, dtype=np.int64)
        self.temperature = np.ones((capacity, len(SEGMENTS)), dtype=np.float32)
        self.top_p = np.ones((capacity, len(SEGMENTS)), dtype=np.float32)
        self.penalty = np.ones((capacity, len(SEGMENTS)), dtype=np.float32)
        self.gamma = torch.ones(capacity, hidden, device=device)
        self.tokens = np.zeros((capacity, longest), dtype=np.int64)
        self.segments = np.zeros((capacity, longest), dtype=np.int8)
        self.flags = np.zeros((capacity, longest), dtype=np.int8)
        self.logprobs = np.zeros((capacity, longest), dtype=np.float32)
        self.gated = np.zeros((capacity, longest, 3), dtype=np.float32)
        """The gate at every token: its switch, and the lengths of what that adds and of the state."""

    def admit(self, meta: RowMeta, length: int) -> int:
        """Take the next free slot for a row whose prompt of `length` tokens is in the cache."""
        slot, request = self.used, meta.request
        self.meta[slot] = meta
        self.length[slot], self.index[slot] = length, 0
        draw = request.id if request.noise_id is None else request.noise_id
        keys = (torch.tensor([key]) for key in (request.seed, draw))
        self.stream[slot] = streams(*keys).item()
        columns = zip(*meta.opening.sampler, strict=True)
        self.temperature[slot], self.top_p[slot], self.penalty[slot] = columns
        self.seen[slot] = False
        self.used += 1
        return slot

    def move(self, source: int, target: int) -> None:
        """Copy everything of one slot to another."""
        self.meta[target] = self.meta[source]
        for value in vars(self).values():
            if isinstance(value, torch.Tensor | np.ndarray):
                value[target] = value[source]

    def sampler(self, segments: Codes) -> tuple[Reals, Reals]:
        """Return temperature and top-p of each running row in the segment it is in."""
        rows = np.arange(self.used)
        return self.temperature[rows, segments], self.top_p[rows, segments]

    def repetition(self, segments: Codes) -> Repetition | None:
        """Return what makes written tokens less likely in each row's segment; None where nothing does."""
        penalty = self.penalty[np.arange(self.used), segments]
        if (penalty == 1).all():
            return None
        return Repetition(self.seen[: self.used], torch.from_numpy(penalty).to(self.seen.device))

    def write(
        self,
        tokens: Ints,
        segments: Codes,
        flags: Codes,
        logprobs: Float[Tensor, " used"],
    ) -> None:
        """Record the token that each running row emitted."""
        rows, at = np.arange(self.used), self.index[: self.used]
        self.tokens[rows, at] = tokens
        self.segments[rows, at] = segments
        self.flags[rows, at] = flags
        self.logprobs[rows, at] = logprobs.cpu().numpy()
        self.token[: self.used] = torch.from_numpy(tokens)
        if (self.penalty[: self.used] != 1).any():
            self.seen[rows, tokens] = True
        self.index[: self.used] += 1

    def write_gate(self, state: GateState) -> None:
        """Record what the gate did to the token that each running row has just read."""
        if state.on is None or state.push is None or state.length is None:
            return
        figures = torch.stack((state.on, state.push, state.length), dim=-1)
        rows, at = np.arange(self.used), self.index[: self.used] - 1
        self.gated[rows, at] = figures[:, 0].cpu().numpy()

    def of(self, slot: int) -> RowMeta:
        """Return what is known of a running row."""
        meta = self.meta[slot]
        assert meta is not None, f"slot {slot} is free."
        return meta

    def remember(self, slot: int, rereading: Rereading) -> None:
        """Keep a re-reading with the token that came before it."""
        self.of(slot).rereadings[int(self.index[slot]) - 1] = rereading

    def step(self, slot: int, at: int, segment: Segment | None = None) -> Step:
        """Return one token of a row; while a closer of several ids comes it counts as THINK."""
        flags = int(self.flags[slot, at])
        meta = self.of(slot)
        return Step(
            request_id=meta.request.id,
            index=at,
            token=int(self.tokens[slot, at]),
            segment=segment or SEGMENTS[self.segments[slot, at]],
            sampled=bool(flags & SAMPLED),
            altered=bool(flags & ALTERED),
            logprob=float(self.logprobs[slot, at]),
            rereading=meta.rereadings.get(at),
        )

    def steps(self, slot: int, used: int, closer: int) -> tuple[Step, ...]:
        """Return all tokens of a row that has ended, after `used` THINK tokens and a closer."""
        count = int(self.index[slot])
        segments = segments_of(count, used, closer)
        return tuple(self.step(slot, at, segments[at]) for at in range(count))

    def gate_report(self, slot: int, used: int, *, telemetry: bool) -> GateReport:
        """Return what the gate did over a row's THINK tokens; without any there is no figure."""
        if used == 0:
            return GateReport(None, None, None)
        on, push, length = self.gated[slot, :used].T
        change = on * push
        return GateReport(
            coverage=float(on.mean()),
            norm=float((change / np.maximum(length, SHORTEST)).mean()),
            saturation=self.of(slot).opening.saturation,
            per_token=tuple(change.tolist()) if telemetry else (),
        )
