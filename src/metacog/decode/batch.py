"""The rows that run together: their cache, their controller, and one step of all of them."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metacog.data.padding import require_left_padded
from metacog.decode.batch_budget import BatchController
from metacog.decode.opening import Opener, Opening
from metacog.decode.rereading import Rereader
from metacog.decode.rows import ALTERED, SAMPLED, THINK, RowMeta, Rows
from metacog.decode.sampling import Noise, choose, token_logprob
from metacog.decode.terms import NO_LIMIT
from metacog.model.bundle import MetacogModel
from metacog.model.cache import Cache, SlotCache, growing_cache
from metacog.model.step import Gating, stepper_of
from metacog.model.taps import Taps, taps
from metacog.records import BudgetReport, Generation, Opened, Request, Step

if TYPE_CHECKING:
    from metacog.decode.engine import EngineSettings


class Batch:
    """Runs up to `capacity` replies side by side; freed slots are filled from the end."""

    def __init__(
        self, model: MetacogModel, settings: "EngineSettings", longest: int, capacity: int
    ) -> None:
        base = model.base
        self.base, self.model, self.settings = base, model, settings
        self.device = base.model.device
        self.rows = Rows(capacity, longest, base.hidden, base.vocabulary, self.device)
        self.cache = SlotCache(len(base.blocks), capacity, longest)
        self.controller = BatchController(capacity, base.tags, settings.controller)
        self.opener = Opener(model, settings.opening, settings.controller.answer_reserve)
        self.rereader = Rereader(model.reader, settings.reread)
        self.step = stepper_of(
            base,
            model.gate if settings.gate else None,
            tapped=model.reader is not None and settings.reread.schedule != "none",
            longest=longest,
        )
        self.noise = Noise(base.vocabulary, self.device)
        self._thinking = np.zeros(0, dtype=np.bool_)
        self.logits = torch.zeros(capacity, base.vocabulary, device=self.device)

    @property
    def running(self) -> int:
        """Rows that run."""
        return self.rows.used

    @property
    def free(self) -> int:
        """Slots without a row."""
        return len(self.rows.meta) - self.rows.used

    @torch.inference_mode()
    def admit(self, requests: Sequence[Request]) -> None:
        """Read the prompts of waiting requests in one pass and give each a slot."""
        filled = growing_cache()
        read = read_prompts(self.model, [request.prompt for request in requests], filled)
        openings = self.opener.open(read.states, requests)
        for row, (request, opening) in enumerate(zip(requests, openings, strict=True)):
            slot = self._place(request, opening)
            self.cache.fill(slot, filled, row, read.width - len(request.prompt))
            self.logits[slot] = read.logits[row]

    def newest(self, count: int) -> Iterator[Opened]:
        """Yield what was decided for the rows that were admitted last."""
        for slot in range(self.rows.used - count, self.rows.used):
            meta = self.rows.of(slot)
            yield Opened(
                request_id=meta.request.id,
                plan=meta.opening.plan,
                reading=meta.opening.reading,
                budget=self._spent(slot),
            )

    def _place(self, request: Request, opening: Opening) -> int:
        slot = self.rows.admit(RowMeta(request, opening), len(request.prompt))
        if opening.gamma is not None:
            self.rows.gamma[slot] = opening.gamma
        self.controller.admit(
            slot,
            budget=opening.budget,
            max_new_tokens=request.max_new_tokens,
            max_answer_tokens=request.max_answer_tokens,
            opening=opening.marks,
        )
        return slot

    @torch.inference_mode()
    def choose_tokens(self) -> None:
        """Choose every row's next token, forced where the controller says so."""
        rows, used = self.rows, self.rows.used
        decision = self.controller.decide()
        current = self.controller.segments()
        temperature, top_p = rows.sampler(current)
        noise = self.noise.of(rows.stream[:used], rows.index[:used]) if temperature.any() else None
        choice = choose(
            self.logits[:used],
            noise,
            temperature=temperature,
            top_p=top_p,
            decision=decision,
            repetition=rows.repetition(current),
        )
        tokens, replaced = self.controller.resolve(choice.token)
        segments = self.controller.observe(tokens)
        altered = np.where(replaced | choice.altered, ALTERED, 0)
        flags = np.where(decision.forced < 0, SAMPLED | altered, 0).astype(np.int8)
        emitted = torch.from_numpy(tokens).to(self.device)
        rows.write(tokens, segments, flags, token_logprob(self.logits[:used], emitted))
        self._thinking = segments == THINK

    def last_steps(self) -> Iterator[Step]:
        """Yield the token that each row has just emitted."""
        for slot in range(self.rows.used):
            yield self.rows.step(slot, int(self.rows.index[slot]) - 1)

    def retire(self) -> Iterator[Generation]:
        """Yield the replies that have ended and fill their slots from the end."""
        done = np.flatnonzero(self.controller.done)
        for slot in done[::-1].tolist():
            yield self._finished(slot)
            self._release(slot)

    def drop(self, requests: Collection[int]) -> Iterator[Generation]:
        """Free the slots of requests that have left and yield what they have written."""
        if not requests:
            return
        for slot in range(self.rows.used - 1, -1, -1):
            if self.rows.of(slot).request.id in requests:
                yield self._finished(slot)
                self._release(slot)

    @torch.inference_mode()
    def _release(self, slot: int) -> None:
        last = self.rows.used - 1
        self.controller.release(slot)
        if slot != last:
            self.controller.move(last, slot)
            self.cache.move(last, slot, int(self.rows.length[last]))
            self.rows.move(last, slot)
            self._thinking[slot] = self._thinking[last]
        self.rows.used -= 1

    @torch.inference_mode()
    def forward(self) -> None:
        """Read each row's last token, and the layer again where it is due."""
        rows, used = self.rows, self.rows.used
        lengths = rows.length[:used]
        columns, width = torch.from_numpy(lengths.copy()).to(self.device), int(lengths.max()) + 1
        self.cache.prepare(columns, width)
        done = self.step(rows.token[:used], columns, self.cache, self._gating())
        self.logits[:used] = done.logits
        rows.length[:used] += 1
        if done.gate is not None:
            rows.write_gate(done.gate)
        self._reread(done.taps)

    def _gating(self) -> Gating | None:
        """Return what the gate is to do to the tokens that are read next, if any of them is THINK."""
        used = self.rows.used
        if not self._thinking[:used].any():
            return None
        thinking = torch.from_numpy(self._thinking[:used]).to(self.device)
        return Gating(self.rows.gamma[:used], thinking)

    def _reread(self, tapped: Taps | None) -> None:
        controller, used = self.controller, self.rows.used
        thought = controller.used[:used]
        due = self.rereader.due(self._thinking[:used], controller.at_line_end[:used], thought)
        if not len(due) or tapped is None:
            return
        states = tapped.newest(torch.from_numpy(due).to(self.device))
        revisions = {}
        for slot, verdict in zip(
            due.tolist(), self.rereader.read(states, thought[due]), strict=True
        ):
            self.rows.remember(slot, verdict.rereading)
            if verdict.kind is not None and self.rows.of(slot).request.budget != NO_LIMIT:
                revisions[slot] = verdict.kind, verdict.rereading
        if revisions:
            controller.revise(revisions)

    def _spent(self, slot: int) -> BudgetReport:
        opening, request = self.rows.of(slot).opening, self.rows.of(slot).request
        return self.controller.report(
            slot,
            requested=request.budget,
            predicted=opening.predicted,
            source=opening.source,
        )

    def _finished(self, slot: int) -> Generation:
        opening, request = self.rows.of(slot).opening, self.rows.of(slot).request
        report = self._spent(slot)
        figures = None
        if self.model.gate is not None and self.settings.gate:
            figures = self.rows.gate_report(slot, report.used, telemetry=self.settings.telemetry)
        return Generation(
            request_id=request.id,
            prompt=request.prompt,
            steps=self.rows.steps(slot, report.used, len(self.base.tags.think_close)),
            budget=report,
            reading=opening.reading,
            plan=opening.plan,
            gate=figures,
            finished=bool(self.controller.finished[slot]),
        )


@dataclass(frozen=True)
class PromptPass:
    """What one pass over prompts of different lengths left behind."""

    logits: Float[Tensor, "batch vocab"]
    states: Float[Tensor, "batch layers hidden"] | None
    """Of every block at the last token; None where no layer reads them."""
    width: int
    """Tokens of the longest prompt: the others are padded on the left."""


@torch.inference_mode()
def read_prompts(
    model: MetacogModel, prompts: Sequence[Sequence[int]], cache: Cache | None = None
) -> PromptPass:
    """Read prompts in one pass; `cache` takes up their keys and values."""
    base = model.base
    device = base.model.device
    ids, valid = left_padded_ids(prompts, base.pad_id)
    with taps(base.blocks) if model.reader is not None else nullcontext() as tapped:
        logits = base.logits(
            ids.to(device),
            mask=causal(valid).to(device),
            positions=(valid.long().cumsum(1) - 1).clamp(min=0).to(device),
            cache=cache,
        )
    last = torch.full((len(prompts),), ids.shape[1] - 1, device=device)
    return PromptPass(logits, tapped.at(last) if tapped is not None else None, ids.shape[1])


def left_padded_ids(
    prompts: Sequence[Sequence[int]], pad: int
) -> tuple[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq"]]:
    """Return rows of ids padded on the left, and where they are not padding."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts])
    lengths = torch.tensor([len(p) for p in prompts])
    valid = torch.arange(width) >= (width - lengths).unsqueeze(1)
    require_left_padded(valid)
    return ids, valid


def causal(valid: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch 1 seq seq"]:
    """Each token sees itself and the real tokens before it; padding sees itself alone."""
    width = valid.shape[1]
    lower = torch.ones(width, width, dtype=torch.bool).tril()
    seen = lower & valid.unsqueeze(1)
    return (seen | torch.eye(width, dtype=torch.bool)).unsqueeze(1)
