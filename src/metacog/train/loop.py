"""The loop that every objective runs in: step, log, evaluate, save."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metacog.config.run import TrainingConfig
from metacog.errors import RunError
from metacog.telemetry.events import EventKind
from metacog.telemetry.files import new_directory
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.train.optim import Optimizers, course
from metacog.train.watch import Watch, watching

Batch = TypeVar("Batch")

_LOG_EVERY = 10


@dataclass(frozen=True)
class StepResult:
    """What one forward pass gives the loop."""

    loss: Float[Tensor, ""]
    metrics: Mapping[str, float]
    tokens: int
    """Tokens or rows processed, for the speed that is logged."""


@runtime_checkable
class Objective(Protocol[Batch]):
    """What a run trains: its batches, its loss, and how its state is saved."""

    optimizers: Optimizers

    def batches(self, start: int) -> Iterator[Batch]:
        """Yield training batches, the one of step `start` first."""

    def step(self, batch: Batch) -> AbstractContextManager[StepResult]:
        """Give the loss of a batch; what it hooked into the base stays for the backward pass."""

    def evaluate(self) -> Mapping[str, float]:
        """Return figures on validation data."""

    def save(self, directory: Path) -> None:
        """Write what has been learned."""

    @property
    def is_finished(self) -> bool:
        """Whether training may stop before its last step."""


def fit(
    objective: Objective[Batch],
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
    objective: Objective[Batch],
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
        with objective.step(batch) as result:
            norm = _backward(objective, result, config.clip, step)
        objective.optimizers.step(factor)
        seen += result.tokens
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


def save(objective: Objective[Batch], directory: Path, recorder: Recorder, step: int) -> None:
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


def _backward(objective: Objective[Batch], result: StepResult, clip: float, step: int) -> float:
    if not bool(torch.isfinite(result.loss)):
        raise RunError(_not_finite("loss", step))
    result.loss.backward()
    norm = nn.utils.clip_grad_norm_(objective.optimizers.parameters, clip)
    if not bool(torch.isfinite(norm)):
        raise RunError(_not_finite("gradient", step))
    return float(norm)


def _not_finite(what: str, step: int) -> str:
    return (
        f"Wanted a finite {what}, got NaN or infinity at step {step}; the weights are as they were "
        "before it. Lower run.learning_rate or look at the data of this step."
    )
