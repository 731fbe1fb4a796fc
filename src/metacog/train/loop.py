"""The loop that every objective runs in: step, log, evaluate, save."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metacog.config.run import TrainingConfig
from metacog.errors import RunError, RunStopped
from metacog.losses.combine import LossName, accumulate, loss_values
from metacog.losses.report import LossReport, Tally, means, merged
from metacog.telemetry.events import EventKind
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.train.checkpoint import Keeper
from metacog.train.guards import Guards
from metacog.train.optim import Optimizers, course
from metacog.train.state import State
from metacog.train.stopping import Stop
from metacog.train.strikes import Strike, examples_of
from metacog.train.usage import memory_figures
from metacog.train.watch import Watch, watching

Batch = TypeVar("Batch")
Part = TypeVar("Part")
Counts = Mapping[LossName, Tensor]
"""Labels of each loss in a whole optimizer step."""

_LOG_EVERY = 10


@dataclass(frozen=True)
class StepResult:
    """What one forward pass gives the loop."""

    loss: Float[Tensor, ""]
    """What this pass adds to the loss of the whole step, with its gradient."""
    reports: Mapping[LossName, LossReport]
    weights: Mapping[LossName, float]
    tokens: int
    """Tokens or rows processed, for the speed that is logged."""
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    """Figures beside the losses, by event name."""
    replies: Mapping[str, Sequence[object]] = field(default_factory=dict)
    """Figures of every reply that was rolled out, by name; logged at each step."""

    @property
    def metrics(self) -> dict[str, float]:
        """The means of all losses and figures by event name; what has no label is absent."""
        return {**loss_values(self.reports, self.weights), **means(self.tallies)}

    def __add__(self, other: "StepResult") -> "StepResult":
        """Return both passes as one, without gradients."""
        return StepResult(
            self.loss.detach() + other.loss.detach(),
            accumulate(self.reports, other.reports),
            {**self.weights, **other.weights},
            self.tokens + other.tokens,
            merged(self.tallies, other.tallies),
            {**self.replies, **other.replies},
        )


@runtime_checkable
class Objective(Protocol[Batch, Part]):
    """What a run trains: its batches, its loss, and how its state is saved."""

    optimizers: Optimizers

    def batches(self, start: int) -> Iterator[Batch]:
        """Yield training batches, the one of step `start` first."""

    def parts(self, batch: Batch) -> Sequence[Part]:
        """Return what passes through the model one after the other for one optimizer step."""

    def counts(self, parts: Sequence[Part]) -> Counts | None:
        """Return the labels of each loss in all parts; None where there is only ever one part."""

    def step(self, part: Part, counts: Counts | None = None) -> AbstractContextManager[StepResult]:
        """Give the loss of a part over the labels of all; its hooks stay for the backward pass."""

    def evaluate(self) -> Mapping[str, float]:
        """Return figures on validation data."""

    def state(self) -> State:
        """Return what it needs beside its weights, seed and step to go on."""

    def load_state(self, state: State) -> None:
        """Take up what `state` returned."""

    def save(self, directory: Path, *, whole: bool = True) -> None:
        """Write what has been learned: a base that learned whole, or only what of it did."""

    @property
    def is_finished(self) -> bool:
        """Whether training may stop before its last step."""


def fit(
    objective: Objective[Batch, Part],
    config: TrainingConfig,
    *,
    run: RunDir,
    recorder: Recorder,
    start: int = 0,
    keeper: Keeper | None = None,
    stop: Stop | None = None,
    guards: Guards | None = None,
) -> int:
    """Train to the last step, or until the objective has finished; return the steps done.

    Args:
        objective: What is trained.
        config: Of its training.
        run: Where checkpoints go.
        recorder: Told of everything.
        start: Steps that were done before.
        keeper: Saves; by default one of its own.
        stop: Looked at after each step.
        guards: What every step must hold to.

    Raises:
        RunError: If a weight is not finite, or too many steps in a row had to be refused, and the
            weights are then untouched; if a guard is not held to; or if something cannot be saved.
        RunStopped: If it was asked to stop; what was learned is saved then.
    """
    keeper = keeper or Keeper(objective, config, run, recorder)
    with watching(objective, run=run, recorder=recorder, start=start) as watch:
        return _fit(
            objective,
            config,
            recorder,
            start=start,
            keeper=keeper,
            stop=stop,
            watch=watch,
            guards=guards or Guards(),
        )


def _fit(
    objective: Objective[Batch, Part],
    config: TrainingConfig,
    recorder: Recorder,
    *,
    start: int,
    keeper: Keeper,
    stop: Stop | None,
    watch: Watch,
    guards: Guards,
) -> int:
    clock, seen, step = time.monotonic(), 0, start
    is_last = start >= config.steps or objective.is_finished
    batches = objective.batches(start)
    while not is_last:
        step += 1
        factor = course(step - 1, config.steps, warmup=config.warmup, decay=config.decay)
        batch = next(batches)
        done = _step(objective, batch, config.clip, factor, step, keeper, guards)
        result, metrics = done.result, done.metrics
        seen += result.tokens
        if result.replies:
            recorder.record(EventKind.HIST, step, result.replies)
        if done.strike is None:
            guards.after(step, metrics)
            watch.after(step, {**metrics, **memory_figures()})
        else:
            watch.struck(step, done.strike, examples_of(objective, batch))
        if step % config.eval_interval == 0:
            with keeper.averaged():
                watch.evaluate(step, objective)
        is_last = step >= config.steps or objective.is_finished
        if step % _LOG_EVERY == 0 or is_last:
            speed = seen / (time.monotonic() - clock)
            extra = {"train/grad_norm": done.norm, "perf/tokens_per_s": speed, **memory_figures()}
            rates = objective.optimizers.rates(factor)
            recorder.metrics(step, {**metrics, **extra, **rates})
        if step % config.save_interval == 0:
            keeper.checkpoint(step)
        guards.on_save(keeper.run, step)
        if stop is not None and stop.asked and not is_last:
            raise _stopped(keeper, step, stop)
    keeper.final(step)
    return step


@dataclass(frozen=True)
class _Done:
    """One optimizer step, taken or refused."""

    result: StepResult
    metrics: Mapping[str, float]
    norm: float
    """Of the gradient before clipping."""
    strike: Strike | None
    """Why it was refused."""


def _step(
    objective: Objective[Batch, Part],
    batch: Batch,
    clip: float,
    factor: float,
    step: int,
    keeper: Keeper,
    guards: Guards,
) -> _Done:
    """Take one optimizer step, or refuse it and leave the weights as they are."""
    with guards.on_step():
        result = _backward(objective, batch, step, guards)
    norm = float(nn.utils.clip_grad_norm_(objective.optimizers.parameters, clip))
    metrics, loss = result.metrics, float(result.loss.detach())
    strike = keeper.strikes.judge(step, metrics, result.weights, loss=loss, norm=norm)
    if strike is None:
        objective.optimizers.step(factor)
        keeper.stepped()
    else:
        objective.optimizers.forget()
    return _Done(result, metrics, norm, strike)


def _stopped(keeper: Keeper, step: int, stop: Stop) -> RunStopped:
    keeper.stopped(step)
    return RunStopped(
        f"Stopped after step {step} as asked; what was learned is in {keeper.run.stopped}. "
        "Go on with --resume auto.",
        signal=stop.signal,
    )


def _backward(
    objective: Objective[Batch, Part], batch: Batch, step: int, guards: Guards
) -> StepResult:
    """Take the gradient of a whole step, part by part."""
    whole: StepResult | None = None
    if not all(bool(torch.isfinite(p).all()) for p in objective.optimizers.parameters):
        raise RunError(
            f"Wanted a finite weight, got NaN or infinity at step {step}, before it was taken. Lower "
            "run.learning_rate and go back to a checkpoint."
        )
    parts = objective.parts(batch)
    counts = objective.counts(parts)
    for part in parts:
        with objective.step(part, counts) as result:
            guards.on_pass()
            result.loss.backward()
        whole = result if whole is None else whole + result
    assert whole is not None, "a step has at least one part."
    return whole
