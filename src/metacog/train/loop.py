"""The loop that every objective runs in: step, log, evaluate, save."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

from metacog.config.run import TrainingConfig
from metacog.errors import RunError, RunStopped
from metacog.model.learner import Learner
from metacog.telemetry.events import EventKind
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.train.checkpoint import Keeper
from metacog.train.optim import Optimizers, course, is_finite
from metacog.train.passage import Passage
from metacog.train.result import Counts, StepResult, over_processes
from metacog.train.state import State
from metacog.train.stopping import Stop
from metacog.train.strikes import Strike, examples_of
from metacog.train.usage import memory_figures
from metacog.train.watch import Watch, watching

Batch = TypeVar("Batch")
Part = TypeVar("Part")
_LOG_EVERY = 10


@runtime_checkable
class Objective(Protocol[Batch, Part]):
    """What a run trains: its batches, its loss, and how its state is saved."""

    optimizers: Optimizers

    def batches(self, start: int) -> Iterator[Batch]:
        """Yield training batches, the one of step `start` first."""

    def parts(self, batch: Batch) -> Sequence[Part]:
        """Return what passes through the model one after the other for one optimizer step."""

    def counts(self, parts: Sequence[Part]) -> Counts | None:
        """Return the labels of each loss in all parts of this process.

        Asked only where there are several parts or processes; None where there never are.
        """

    def learner(self) -> Learner:
        """Return the modules that passes go through."""

    def step(
        self, part: Part, counts: Counts | None = None, learner: Learner | None = None
    ) -> AbstractContextManager[StepResult]:
        """Give the loss of a part over the labels of all; its hooks stay for the backward pass.

        Args:
            part: What passes.
            counts: Labels of each loss in the whole step; None where the part is the whole step.
            learner: What it passes through; by default what the objective holds.
        """

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
    passage: Passage | None = None,
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
        passage: The way of passes and gradients, and what every step must hold to; by default on
            this process alone, and little.

    Raises:
        RunError: If a weight is not finite, or too many steps in a row had to be refused, and the
            weights are then untouched; if a guard is not held to; or if something cannot be saved.
        RunStopped: If it was asked to stop; what was learned is saved then.
    """
    passage = passage or Passage(objective)
    processes = passage.processes
    keeper = keeper or Keeper(objective, config, run, recorder, processes=processes)
    with watching(
        objective, run=run, recorder=recorder, start=start, asks=processes.is_first
    ) as watch:
        loop = _Loop(objective, config, recorder, passage, keeper, watch)
        return loop.train(start, stop or Stop())


@dataclass(frozen=True)
class _Done:
    """One optimizer step, taken or refused."""

    result: StepResult
    """Of all processes."""
    metrics: Mapping[str, float]
    norm: float
    """Of the gradient before clipping."""
    strike: Strike | None
    """Why it was refused."""


@dataclass
class _Speed:
    """What was learned from since a start."""

    started: float
    tokens: int = 0
    points: int = 0

    def add(self, result: StepResult) -> None:
        self.tokens += result.tokens
        self.points += result.points

    def figures(self, now: float) -> dict[str, float]:
        """Return each a second, and nothing of what is not learned from."""
        counted = {"perf/tokens_per_s": self.tokens, "perf/points_per_s": self.points}
        return {name: count / (now - self.started) for name, count in counted.items() if count}


@dataclass(frozen=True)
class _Loop(Generic[Batch, Part]):
    objective: Objective[Batch, Part]
    config: TrainingConfig
    recorder: Recorder
    passage: Passage
    keeper: Keeper
    watch: Watch

    def train(self, start: int, stop: Stop) -> int:
        """Return the steps that are done in the end."""
        objective, config, processes = self.objective, self.config, self.passage.processes
        speed, step = _Speed(time.monotonic()), start
        is_last = start >= config.steps or objective.is_finished
        batches = objective.batches(start)
        while not is_last:
            step += 1
            factor = course(step - 1, config.steps, warmup=config.warmup, decay=config.decay)
            batch = processes.together(lambda: next(batches))
            done = self._step(batch, factor, step)
            result, metrics = done.result, done.metrics
            speed.add(result)
            if result.replies:
                self.recorder.record(EventKind.HIST, step, result.replies)
            if done.strike is None:
                self.passage.guards.after(step, metrics)
                self.watch.after(step, {**metrics, **memory_figures()})
            else:
                told = processes.gather(list(examples_of(objective, batch)))
                self.watch.struck(step, done.strike, [name for names in told for name in names])
            if self._is_judged(step):
                with self.keeper.averaged():
                    self.watch.evaluate(step, objective)
            is_stopped, is_finished = self._agreed(stop)
            is_last = step >= config.steps or is_finished
            if step % _LOG_EVERY == 0 or is_last:
                extra = {"train/grad_norm": done.norm, **speed.figures(time.monotonic())}
                rates = objective.optimizers.rates(factor)
                self.recorder.metrics(step, {**metrics, **extra, **memory_figures(), **rates})
            if step % config.save_interval == 0:
                self.keeper.checkpoint(step)
            if processes.is_first:
                self.passage.guards.on_save(self.keeper.run, step)
            if (is_stopped or (processes.size == 1 and stop.asked)) and not is_last:
                raise _stopped(self.keeper, step, stop)
        self.keeper.final(step)
        return step

    def _is_judged(self, step: int) -> bool:
        """Say whether a step is evaluated: at the interval, and the last, which may be the best yet."""
        steps, interval = self.config.steps, self.config.eval_interval
        return step % interval == 0 or (step == steps and interval <= steps)

    def _agreed(self, stop: Stop) -> tuple[bool, bool]:
        """Return whether any process was asked to stop, and whether the first one has finished."""
        mine = [stop.asked, stop.signal, self.objective.is_finished]
        told = self.passage.processes.gather(mine)
        numbers = [number for is_asked, number, _ in told if is_asked]
        if numbers and not stop.asked:  # all end with the code of the signal that one of them got
            stop.ask(numbers[0])
        return bool(numbers), bool(told[0][2])

    def _step(self, batch: Batch, factor: float, step: int) -> _Done:
        """Take one optimizer step, or refuse it and leave the weights as they are."""
        with self.passage.guards.on_step():
            mine = self._backward(batch, step)
        norm = self.passage.clip(self.config.clip)
        result = over_processes(mine, self.passage.processes)
        metrics, loss = result.metrics, float(result.loss.detach())
        strike = self.keeper.strikes.judge(step, metrics, result.weights, loss=loss, norm=norm)
        if strike is None:
            self.objective.optimizers.step(factor)
            self.keeper.stepped()
        else:
            self.objective.optimizers.forget()
        return _Done(result, metrics, norm, strike)

    def _backward(self, batch: Batch, step: int) -> StepResult:
        """Take the gradient of a whole step, part by part."""
        objective, processes = self.objective, self.passage.processes
        whole: StepResult | None = None
        finite = (is_finite(parameter) for parameter in objective.optimizers.parameters)
        if processes.any(not all(finite)):
            raise RunError(
                f"Wanted a finite weight, got NaN or infinity at step {step}, before it was taken. "
                "Lower run.learning_rate and go back to a checkpoint."
            )
        parts = objective.parts(batch)
        counts = None
        if len(parts) > 1 or processes.size > 1:
            counts = objective.counts(parts)
            counts = None if counts is None else processes.totals(counts)
        for place, part in enumerate(parts, 1):
            compute = partial(objective.step, part, counts)
            with self.passage.run(compute, is_last=place == len(parts)) as result:
                self.passage.guards.on_pass()
                self.passage.backward(result)
            whole = result if whole is None else whole + result
        assert whole is not None, "a step has at least one part."
        return whole


def _stopped(keeper: Keeper, step: int, stop: Stop) -> RunStopped:
    keeper.stopped(step)
    return RunStopped(
        f"Stopped after step {step} as asked; what was learned is in {keeper.run.stopped}. "
        "Go on with --resume auto.",
        signal=stop.signal,
    )
