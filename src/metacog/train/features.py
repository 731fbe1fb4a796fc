"""What the layer is trained on: states of a frozen base along its own rollouts, with labels.

A rollout gives one prompt row and a point row for each cut of its thinking. All labels come from
one forward pass over the trace and its branches (`decode.prefixes`), with the gate in place.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from random import Random

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from safetensors.torch import save as serialise_tensors
from torch import Tensor

from metacog.config.decoding import BudgetConfig
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.questions import Question
from metacog.decode.collect import Rollout, line_cuts, trace_of
from metacog.decode.prefixes import PrefixValues, Trace, prefix_values
from metacog.model.bundle import MetacogModel
from metacog.records import CloseReason
from metacog.telemetry.files import write_bytes

_FAMILY_NAMES = tuple(FAMILIES)


@dataclass(frozen=True)
class Features:
    """Rows for prompts and rows for points inside THINK; a missing label is NaN."""

    prompt_states: Float[Tensor, "prompts layers hidden"]
    need: Float[Tensor, " prompts"]
    """THINK tokens of the shortest sufficient prefix that ends a line; NaN where the trace ends
    wrong or did not end by itself."""
    natural: Float[Tensor, " prompts"]
    """THINK tokens of the uncapped rollout."""
    closed: Bool[Tensor, " prompts"]
    """Whether the rollout closed THINK by itself."""
    family: Int[Tensor, " prompts"]
    level: Int[Tensor, " prompts"]
    prompt_length: Int[Tensor, " prompts"]
    question: Int[Tensor, " prompts"]
    """`question_key` of the question."""
    plan: Int[Tensor, " prompts"]
    """Index of the plan that is right for the fewest tokens; -1 where none was tried or right."""
    point_states: Float[Tensor, "points layers hidden"]
    prompt: Int[Tensor, " points"]
    """Row of the prompt that a point belongs to."""
    used: Float[Tensor, " points"]
    """THINK tokens before the point."""
    line_end: Bool[Tensor, " points"]
    """Whether the last token before the point ends a line."""
    needed: Float[Tensor, " points"]
    """THINK tokens from the point to need, 0 beyond it; NaN where there is no need."""
    ready: Float[Tensor, " points"]
    """Probability of the right answer if THINK closed here."""
    hope: Float[Tensor, " points"]
    """Probability of the right answer at the natural end; NaN where there was none."""
    right: Float[Tensor, " tokens"]
    """`ready` after every number of THINK tokens, 0 to natural, prompt after prompt; empty unless
    asked for."""

    def save(self, path: Path) -> None:
        """Write all rows to one file."""
        write_bytes(path, serialise_tensors(self.columns()))

    def columns(self) -> dict[str, Tensor]:
        """Return all columns by name."""
        return {f.name: getattr(self, f.name).contiguous() for f in fields(self)}

    def save_labels(self, path: Path) -> None:
        """Write what is known of each prompt, without any states: a small file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        names = (
            "need",
            "natural",
            "closed",
            "family",
            "level",
            "prompt_length",
            "question",
            "plan",
        )
        save_file({name: getattr(self, name).contiguous() for name in names}, path)

    @classmethod
    def load(cls, path: Path) -> "Features":
        """Read what `save` wrote."""
        return cls(**load_file(path, device=str(torch.get_default_device())))


def question_key(question: Question) -> int:
    """Return the first 60 bits of a question's hash: its identity as a number."""
    return int(question.id[:15], 16)


def joined(parts: Sequence[Features]) -> Features:
    """Return the rows of all parts, points still pointing at their own prompts."""
    offsets = torch.tensor([0, *(len(part.need) for part in parts[:-1])]).cumsum(0).tolist()
    columns = {
        f.name: torch.cat([getattr(part, f.name) for part in parts])
        for f in fields(Features)
        if f.name != "prompt"
    }
    prompt = torch.cat([p.prompt + o for p, o in zip(parts, offsets, strict=True)])
    return Features(prompt=prompt, **columns)


def extract(
    model: MetacogModel,
    rollouts: Iterable[Rollout],
    *,
    temperature: float,
    extra_cuts: int = 2,
    every_token: bool = False,
    batch: int = 256,
    seed: int = 0,
) -> Iterator[Features]:
    """Yield the rows of rollouts, a batch at a time.

    Args:
        model: The base that made them, with its gate where it has one.
        rollouts: Uncapped rollouts.
        temperature: At which answers are sampled, for `ready` and `hope`.
        extra_cuts: Points at random tokens beside the line ends of each trace, and where the model's
            decoding reads again.
        every_token: Value every token as well, into `right`; points stay where they are.
        batch: Traces whose rows are taken together.
        seed: Of the random points.
    """
    rng = Random(seed)
    waiting: list[tuple[Rollout, Trace]] = []
    for rollout in rollouts:
        trace = _with_schedule(trace_of(rollout, model.base), model.decoding.budget)
        waiting.append((rollout, _with_extra_cuts(trace, extra_cuts, rng)))
        if len(waiting) == batch:
            yield from _rows_of(model, waiting, temperature, every_token=every_token)
            waiting = []
    yield from _rows_of(model, waiting, temperature, every_token=every_token)


def _rows_of(
    model: MetacogModel,
    waiting: Sequence[tuple[Rollout, Trace]],
    temperature: float,
    *,
    every_token: bool,
) -> Iterator[Features]:
    if waiting:
        traces = [trace for _, trace in waiting]
        values = prefix_values(model, traces, temperature=temperature)
        rows = _rows([rollout for rollout, _ in waiting], values, model.base.tags.line_ends)
        yield replace(rows, right=_every_right(model, traces, temperature)) if every_token else rows


def _every_right(
    model: MetacogModel, traces: Sequence[Trace], temperature: float
) -> Float[Tensor, " tokens"]:
    every = [replace(trace, cuts=tuple(range(len(trace.think) + 1))) for trace in traces]
    values = prefix_values(model, every, temperature=temperature)
    return torch.cat([value.logprob for value in values]).exp().clamp(0, 1)


def _with_schedule(trace: Trace, budget: BudgetConfig) -> Trace:
    """Return a trace that is cut at each token where it would be read again every so many, too."""
    if budget.reread != "every":
        return trace
    due = range(budget.reread_every, len(trace.think) + 1, budget.reread_every)
    return replace(trace, cuts=tuple(sorted({*trace.cuts, *due})))


def _with_extra_cuts(trace: Trace, extra: int, rng: Random) -> Trace:
    cuts = {*trace.cuts, *(rng.randint(0, len(trace.think)) for _ in range(extra))}
    return Trace(trace.prompt, trace.think, trace.answer, tuple(sorted(cuts)))


def _rows(
    rollouts: Sequence[Rollout], values: Sequence[PrefixValues], line_ends: frozenset[int]
) -> Features:
    reasons = [rollout.generation.budget.close_reason for rollout in rollouts]
    closed = torch.tensor([reason is CloseReason.NATURAL for reason in reasons])
    need = torch.tensor(
        [
            _need(rollout, value, line_ends) if natural else math.nan
            for rollout, value, natural in zip(rollouts, values, closed.tolist(), strict=True)
        ]
    )
    counts = torch.tensor([len(v.cuts) for v in values])
    prompt = torch.arange(len(values)).repeat_interleave(counts)
    used = torch.tensor([float(cut) for v in values for cut in v.cuts])
    ready = torch.cat([v.logprob for v in values]).exp()
    hope = torch.stack([v.logprob[-1] for v in values]).exp()
    hope = torch.where(closed, hope, math.nan)
    return Features(
        prompt_states=torch.stack([v.prompt_states for v in values]).half(),
        need=need,
        natural=torch.tensor([float(len(r.generation.think)) for r in rollouts]),
        closed=closed,
        family=torch.tensor([_FAMILY_NAMES.index(r.question.family) for r in rollouts]),
        level=torch.tensor([r.question.level for r in rollouts]),
        prompt_length=torch.tensor([len(r.generation.prompt) for r in rollouts]),
        question=torch.tensor([question_key(r.question) for r in rollouts]),
        plan=torch.full((len(values),), -1),
        point_states=torch.cat([v.cut_states for v in values]).half(),
        prompt=prompt,
        used=used,
        line_end=torch.tensor(
            [
                cut > 0 and rollout.generation.think[cut - 1] in line_ends
                for rollout, value in zip(rollouts, values, strict=True)
                for cut in value.cuts
            ]
        ),
        needed=(need[prompt] - used).clamp(min=0),
        ready=ready.clamp(0, 1),
        hope=hope[prompt].clamp(0, 1),
        right=torch.zeros(0),
    )


def _need(rollout: Rollout, value: PrefixValues, line_ends: frozenset[int]) -> float:
    need = value.need_at(line_cuts(rollout.generation.think, line_ends))
    return math.nan if need is None else float(need)
