"""How fast training is, always beside a peer in the same process, runs in turn.

    ours    the objective `imitate` with everything on: layer, gate, all losses, guards, events, and all of
            the base learning
    bare    the same base on the same tokens: forward pass, cross-entropy, backward pass, clipping, AdamW
    trl     `SFTTrainer` on the same traces (`train/peer.py`)

Speeds are tokens of prompts and replies a processor second, padding not counted. A contender says
itself how long its steps took: what it prepares before them counts for nobody. Traces are written and
encoded within the steps by ours and bare, as a run does it; TRL gets them encoded.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from metacog.config import parse
from metacog.config.objective import ImitateObjective
from metacog.config.run import RunConfig
from metacog.losses.answer import answer_loss
from metacog.model.base import load_base
from metacog.model.bundle import MetacogModel
from metacog.records import Generation
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.sinks import open_sinks
from metacog.train.checkpoint import Keeper
from metacog.train.gated import reply_batch, reply_logits
from metacog.train.guards import guards_for
from metacog.train.imitate import Imitation
from metacog.train.loop import fit
from metacog.train.passage import Passage
from metacog.train.prepare import prepare_imitation


@dataclass(frozen=True)
class Timed:
    """One run of a contender."""

    tokens: int
    seconds: float

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


Contender = Callable[[], Timed]
"""Takes the steps of one run and says how long they took."""
Rows = Sequence[dict[str, list[int]]]
"""Ids and labels of traces."""


@dataclass(frozen=True)
class Work:
    """What all contenders do."""

    path: Path
    """Of the base."""
    batch: int
    """Traces of a step."""
    steps: int
    """Of one run."""

    def config(self) -> RunConfig:
        """Return the run that is ours; its first step is not timed."""
        document = {
            "model": {"path": str(self.path)},
            "data": {"tasks": ["gcd", "chain_sum", "count_bits"], "num_prompts": 2000},
            "adaptation": {"enabled": True, "unfreeze_all": True},
            "logging": {"sinks": ["jsonl"]},
            "run": {
                "steps": self.steps + 1,
                "batch": self.batch,
                "warmup": 0,
                "save_interval": 1_000_000,
                "eval_interval": 1_000_000,
                "learning_rate": 1e-5,
                "objective": {"kind": "imitate", "cut_after": 1_000_000},
            },
        }
        return parse(document, source="bench train")


TrlSteps = Callable[[Work, Rows], Contender]
"""Makes a contender of the same steps (`train/peer.py`)."""


def clock() -> float:
    """Return the processor seconds of this process: what else runs on the machine counts for nothing."""
    return time.process_time()


def replies_of(work: Work, objective: Imitation, number: int) -> list[Generation]:
    """Return the replies of one timed step, from 0."""
    return [trace.reply for trace in objective.traces.batch(number % work.steps + 1)]


def tokens_of(work: Work, objective: Imitation) -> int:
    """Return the tokens of prompts and replies of all timed steps."""
    replies = [r for n in range(work.steps) for r in replies_of(work, objective, n)]
    return sum(len(reply.prompt) + len(reply.steps) for reply in replies)


def ours(work: Work) -> tuple[Imitation, Contender]:
    """Return our objective on a base of its own, and its steps as every run takes them."""
    config = work.config()
    assert isinstance(config.run.objective, ImitateObjective)
    model = MetacogModel(load_base(work.path))
    objective = prepare_imitation(config, config.run.objective, model, [], None)
    guards = guards_for(config, objective.current())

    def run() -> Timed:
        with tempfile.TemporaryDirectory() as directory:
            there = RunDir(Path(directory) / "run")
            recorder = Recorder("bench", open_sinks(["jsonl"], there))
            keeper = _TimedKeeper(objective, config.run, there, recorder)
            fit(
                objective,
                config.run,
                run=there,
                recorder=recorder,
                keeper=keeper,
                passage=Passage(objective, guards=guards),
            )
            recorder.close()
        return Timed(tokens_of(work, objective), keeper.ended - keeper.began)

    return objective, run


class _TimedKeeper(Keeper):
    """Takes the time from the first step's end to the last one's, and saves nothing."""

    began = ended = 0.0

    def stepped(self) -> None:
        """Note the first step's end: what a run prepares is no step."""
        super().stepped()
        self.began = self.began or clock()

    def final(self, step: int) -> None:
        """Note the last step's end."""
        assert step > 0
        self.ended = clock()


def bare(work: Work, objective: Imitation) -> Contender:
    """Return plain supervised steps on the traces of our objective, on a base of its own."""
    base = load_base(work.path)
    model = MetacogModel(base)
    parameters = list(base.model.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-5)

    def step(replies: Sequence[Generation]) -> None:
        loss = answer_loss(*reply_logits(model, reply_batch(replies, base.pad_id))).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def run() -> Timed:
        started = clock()
        for number in range(work.steps):
            step(replies_of(work, objective, number))
        seconds = clock() - started
        return Timed(tokens_of(work, objective), seconds)

    return run


def supervised_rows(work: Work, objective: Imitation) -> Rows:
    """Return the traces of all timed steps as ids and labels, in their order; -100 is not learned."""
    found: list[dict[str, list[int]]] = []
    for number in range(work.steps):
        for reply in replies_of(work, objective, number):
            tokens = [step.token for step in reply.steps]
            labels = [s.token if s.sampled and not s.altered else -100 for s in reply.steps]
            ids = [*reply.prompt, *tokens]
            found.append({"input_ids": ids, "labels": [-100] * len(reply.prompt) + labels})
    return found


def train_speeds(work: Work, *, pairs: int, trl: TrlSteps | None) -> Iterator[tuple[str, Any]]:
    """Yield each figure of the training benchmark, by name, as soon as it is known.

    overhead_step    seconds of our step over those of the bare one on the same tokens
    sft_vs_trl       our tokens a second over SFTTrainer's; absent without it
    """
    objective, run = ours(work)
    found = in_turn(run, bare(work, objective), pairs=pairs)
    yield "overhead_step", round(median(p.speed / o.speed for o, p in found), 3)
    yield "overhead_step_tokens_per_s", _speeds(found)
    if trl is not None:
        found = in_turn(run, trl(work, supervised_rows(work, objective)), pairs=pairs)
        yield "sft_vs_trl", round(median(o.speed / p.speed for o, p in found), 3)
        yield "sft_vs_trl_tokens_per_s", _speeds(found)


def in_turn(ours: Contender, peer: Contender, *, pairs: int) -> list[tuple[Timed, Timed]]:
    """Run two contenders in turn, once each to warm up; each goes first as often as the other."""
    ours()
    peer()
    found = []
    for number in range(pairs):
        if number % 2:
            second, first = peer(), ours()
        else:
            first, second = ours(), peer()
        found.append((first, second))
    return found


def _speeds(found: Sequence[tuple[Timed, Timed]]) -> list[tuple[float, float]]:
    return [(round(one.speed, 1), round(other.speed, 1)) for one, other in found]
