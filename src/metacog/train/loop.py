"""The loop that every objective runs in: step, log, evaluate, save."""

import shutil
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
from metacog.errors import RunError
from metacog.losses.combine import LossName, accumulate, loss_values
from metacog.losses.report import LossReport, Tally, means, merged
from metacog.telemetry.events import EventKind
from metacog.telemetry.files import new_directory
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.train.optim import Optimizers, course
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

    def save(self, directory: Path) -> None:
        """Write what has been learned."""

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
) -> int:
    """Train to the last step, or until the objective has finished; return the steps done.

    Raises:
        RunError: If a loss or a gradient is not finite; the weights are then untouched.
    """
    with watching(objective, run=run, recorder=recorder, start=start) as watch:
        return _fit(objective, config, run=run, recorder=recorder, start=start, watch=watch)


def _fit(
    objective: Objective[Batch, Part],
    config: TrainingConfig,
    *,
    run: RunDir,
    recorder: Recorder,
    start: int,
    watch: Watch,
) -> int:
    clock, seen, step = time.monotonic(), 0, start
    for step, batch in enumerate(objective.batches(start), start + 1):
        factor = course(step - 1, config.steps, warmup=config.warmup, decay=config.decay)
        result = _backward(objective, batch, step)
        norm = _clipped(objective, config.clip, step)
        objective.optimizers.step(factor)
        seen += result.tokens
        if result.replies:
            recorder.record(EventKind.HIST, step, result.replies)
        watch.after(step, result.metrics)
        if step % config.eval_interval == 0:
            watch.evaluate(step, objective)
        is_last = step >= config.steps or objective.is_finished
        if step % _LOG_EVERY == 0 or is_last:
            speed = seen / (time.monotonic() - clock)
            extra = {"train/grad_norm": norm, "perf/tokens_per_s": speed}
            rates = objective.optimizers.rates(factor)
            recorder.metrics(step, {**result.metrics, **extra, **rates})
        if step % config.save_interval == 0:
            save(objective, run.checkpoint(step), recorder, step)
            forget_old(run, config)
        if is_last:
            break
    save(objective, run.path / "final", recorder, step)
    return step


def save(objective: Objective[Batch, Part], directory: Path, recorder: Recorder, step: int) -> None:
    """Write a checkpoint in full or not at all, and log its absolute path."""
    with new_directory(directory) as temporary:
        objective.save(temporary)
    recorder.record(EventKind.CHECKPOINT, step, {"path": str(directory.absolute())})


def forget_old(run: RunDir, config: TrainingConfig) -> None:
    """Remove all but the latest `keep_last` checkpoints of a run."""
    if config.keep_last is not None:
        saved = sorted(run.path.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
        for path in saved[: -config.keep_last]:
            shutil.rmtree(path)


def _backward(objective: Objective[Batch, Part], batch: Batch, step: int) -> StepResult:
    """Take the gradient of a whole step, part by part."""
    whole: StepResult | None = None
    parts = objective.parts(batch)
    counts = objective.counts(parts)
    for part in parts:
        with objective.step(part, counts) as result:
            if not bool(torch.isfinite(result.loss)):
                raise RunError(_not_finite("loss", step))
            result.loss.backward()
        whole = result if whole is None else whole + result
    assert whole is not None, "a step has at least one part."
    return whole


def _clipped(objective: Objective[Batch, Part], clip: float, step: int) -> float:
    norm = nn.utils.clip_grad_norm_(objective.optimizers.parameters, clip)
    if not bool(torch.isfinite(norm)):
        raise RunError(_not_finite("gradient", step))
    return float(norm)


def _not_finite(what: str, step: int) -> str:
    return (
        f"Wanted a finite {what}, got NaN or infinity at step {step}; the weights are as they were "
        "before it. Lower run.learning_rate or look at the data of this step."
    )
