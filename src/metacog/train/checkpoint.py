"""Checkpoints: what a run has learned and all it takes to go on, written whole or not at all.

metacog.*, adapter/ or base_delta.safetensors      the model as it would be used at this step
weights.safetensors                                what learns, as it is
optimizer.safetensors  ema.safetensors  best.safetensors  ...   tensors of each part of the state
state.json                                         step, random numbers, values of the parts
manifest.json                                      sha256 of all of these
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from safetensors.torch import save as serialise_tensors
from torch import Tensor

from metacog.config.run import TrainingConfig
from metacog.errors import CheckpointError, RunError
from metacog.telemetry.events import EventKind
from metacog.telemetry.files import new_directory, write_bytes, write_json, write_text
from metacog.telemetry.manifest import STATE_NAME, seal
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.train.ema import Ema
from metacog.train.optim import Optimizers
from metacog.train.processes import ALONE, Processes
from metacog.train.state import State, random_state, set_random_state
from metacog.train.strikes import Strikes

_WEIGHTS, _OPTIMIZER, _EMA = "weights", "optimizer", "ema"
_OF_RANK = "-"
"""Stands between the rank of a process, where it is not the first, and the name of a part."""
_MODEL = ("metacog", "base_delta", "model")
"""Files of the model, which are no part of the state."""
_LEARNED = (_WEIGHTS, _OPTIMIZER, _EMA, "best")
"""Parts in which every number must be finite; others may say that a label is missing."""


@runtime_checkable
class Resumable(Protocol):
    """What a checkpoint is made of; an objective is one."""

    optimizers: Optimizers

    def state(self) -> State:
        """Return what it needs beside its weights to go on."""

    def load_state(self, state: State) -> None:
        """Take up what `state` returned."""

    def save(self, directory: Path, *, whole: bool = True) -> None:
        """Write what has been learned."""


@dataclass(frozen=True)
class Origin:
    """What a run's result depends on, as digests."""

    essence: str = "0" * 64
    """Of the settings that change the result."""
    world: Mapping[str, str] = field(default_factory=dict)
    """Of what is read from elsewhere: base, tokenizer, layer, collected data."""


class Keeper:
    """Saves a run and takes it up again.

    Args:
        objective: What is trained.
        config: Of its training.
        run: Where checkpoints go.
        recorder: Told of each.
        origin: What a checkpoint belongs to.
        processes: All of which save and load together; the first one writes.
    """

    def __init__(
        self,
        objective: Resumable,
        config: TrainingConfig,
        run: RunDir,
        recorder: Recorder,
        origin: Origin | None = None,
        *,
        processes: Processes = ALONE,
    ) -> None:
        self._objective, self._config = objective, config
        self.run, self._recorder, self._origin = run, recorder, origin or Origin()
        self._processes = processes
        parameters = objective.optimizers.parameters
        self.ema = None if config.ema is None else Ema(parameters, config.ema)
        self.strikes = Strikes(config)
        """Judges steps; what it knows goes on with the run."""

    def stepped(self) -> None:
        """Take the weights of a step into the running mean, where there is one."""
        if self.ema is not None:
            self.ema.update()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Use the running mean of the weights in the block, where there is one."""
        if self.ema is None:
            yield
            return
        with self.ema.in_place():
            self._objective.optimizers.mirror()
            yield
        self._objective.optimizers.mirror()

    def checkpoint(self, step: int) -> None:
        """Save at the interval, and forget checkpoints beyond `keep_last`."""
        self._commit(self.run.checkpoint(step), step, resumable=True)
        self._processes.first(lambda: forget_old(self.run, self._config.keep_last))

    def stopped(self, step: int) -> None:
        """Save because the run was asked to stop; an earlier stop moves away once this is whole."""
        self._commit(self.run.stopped, step, resumable=True)

    def _set_aside_stopped(self) -> None:
        if self.run.stopped.exists():
            self.run.set_aside(self.run.stopped)

    def final(self, step: int) -> None:
        """Save what was learned in the end, as a model alone."""
        self._commit(self.run.final, step, resumable=False)

    def load(self, directory: Path) -> tuple[int, list[str]]:
        """Go on from a verified checkpoint; return its step and what was restored, as sentences.

        Raises:
            CheckpointError: If it does not fit the objective.
        """
        try:
            values = json.loads((directory / STATE_NAME).read_bytes())
            parts = {p.stem: load_file(p) for p in sorted(directory.glob("*.safetensors"))}
            step, own = int(values["step"]), _own(values, self._processes.rank)
            return step, self._restored(parts, values, own)
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"Wanted the state of {self._config.objective.kind} in {directory}, but what it "
                f"holds does not fit: {error!r}. Go on with the version of metacog that saved it."
            ) from error

    def _restored(
        self,
        parts: Mapping[str, dict[str, Tensor]],
        values: dict[str, Any],
        mine: dict[str, Any],
    ) -> list[str]:
        optimizers = self._objective.optimizers
        optimizers.load_weights(_bare(parts[_WEIGHTS]))
        optimizers.load_tensors(_bare(parts[_OPTIMIZER]))
        said = [
            f"weights: {_by_group(parts[_WEIGHTS])}",
            f"optimizer: {_by_group(parts[_OPTIMIZER])}",
        ]
        if self.ema is not None:
            self.ema.load_state(State(parts[_EMA], values[_EMA]))
            said.append(f"ema: {self.ema.decay:g} after {self.ema.updates} steps")
        rank = self._processes.rank
        before = f"{rank}{_OF_RANK}" if rank else ""
        own = {
            name.removeprefix(before): tensor
            for part in parts.values()
            for name, tensor in part.items()
            if name.startswith(before)
        }
        self._objective.load_state(State(own, mine["objective"]))
        self.strikes.load_state(values["strikes"])
        beside = sorted(parts.keys() - {_WEIGHTS, _OPTIMIZER, _EMA, *_MODEL})
        counted = [f"{name} ({len(parts[name])} tensors)" for name in beside]
        kept = [f"{name} {value}" for name, value in values["objective"].items() if is_short(value)]
        said += [f"objective: {', '.join(counted + kept)}"] if counted or kept else []
        set_random_state(mine["random"])
        return [*said, "random numbers: torch", f"data: behind batch {values['step']}"]

    def _commit(self, path: Path, step: int, *, resumable: bool) -> None:
        state = self._whole_state(step) if resumable else None
        with self.averaged():
            self._processes.first(lambda: self._write(path, step, state))
        self._recorder.record(EventKind.CHECKPOINT, step, {"path": str(path.absolute())})

    def _write(self, path: Path, step: int, state: State | None) -> None:
        resumable = state is not None
        try:
            make_way = self._set_aside_stopped if path == self.run.stopped else None
            with new_directory(path, make_way=make_way) as filling:
                self._objective.save(filling, whole=not resumable)
                if state is not None:
                    _write_state(filling, state)
                    seal(
                        filling,
                        step=step,
                        essence=self._origin.essence,
                        world=self._origin.world,
                        processes=self._processes.told,
                    )
            if resumable:
                write_text(self.run.latest, f"{path.name}\n")
        except (OSError, SafetensorError, CheckpointError) as error:
            raise RunError(
                f"Wanted to save step {step} in {path.absolute()}, but {error}. What was saved "
                "before is as it was: remedy this, then go on with --resume auto."
            ) from error

    def _whole_state(self, step: int) -> State:
        """Return what all processes need to go on; what only one of them needs bears its rank."""
        optimizers, own = self._objective.optimizers, self._objective.state()
        weights = optimizers.weights()
        require_alike(weights, self._processes, step)
        tensors = {
            **{f"{_WEIGHTS}/{name}": value for name, value in weights.items()},
            **{f"{_OPTIMIZER}/{name}": value for name, value in optimizers.tensors().items()},
            **own.tensors,
        }
        values = {
            "step": step,
            "random": random_state(),
            "strikes": self.strikes.state(),
            "objective": own.values,
        }
        others = self._processes.gather({"random": values["random"], "objective": own.values})[1:]
        parts = self._processes.gather_bytes(serialise_tensors(own.tensors))[1:]
        if others:
            values["others"] = others
        for rank, part in enumerate(parts, 1):
            tensors |= {f"{rank}{_OF_RANK}{name}": value for name, value in load(part).items()}
        if self.ema is not None:
            mean = self.ema.state()
            tensors, values[_EMA] = {**tensors, **mean.tensors}, mean.values
        return State(tensors, values)


def require_alike(weights: Mapping[str, Tensor], processes: Processes, step: int) -> None:
    """Refuse to save where processes that should have learned the same have not.

    Raises:
        RunError: Naming those that differ from the first.
    """
    if processes.size == 1:
        return
    digest = sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(torch.uint8).cpu().numpy().tobytes())
    found = processes.gather(digest.hexdigest())
    others = [str(rank) for rank, other in enumerate(found) if other != found[0]]
    if others:
        raise RunError(
            f"Wanted the same weights on all processes after step {step}, but those of process "
            f"{', '.join(others)} differ from the first's: something learns outside the exchange of "
            "gradients. Go on from an earlier checkpoint on one process, and report this."
        )


def _own(values: dict[str, Any], rank: int) -> dict[str, Any]:
    """Return what of the values of a checkpoint is meant for one process."""
    found: dict[str, Any] = values if rank == 0 else values["others"][rank - 1]
    return found


def _write_state(directory: Path, state: State) -> None:
    _require_finite(state.tensors)
    for part in sorted({name.partition("/")[0] for name in state.tensors}):
        mine = {n: t.contiguous() for n, t in state.tensors.items() if n.startswith(f"{part}/")}
        write_bytes(directory / f"{part}.safetensors", serialise_tensors(mine))
    write_json(directory / STATE_NAME, state.values)


def forget_old(run: RunDir, keep_last: int | None) -> None:
    """Remove all but the latest `keep_last` checkpoints of a run.

    Each takes a hidden name first, so that none is ever seen that is half there.
    """
    if keep_last is not None:
        for path in run.checkpoints()[keep_last:]:
            shutil.rmtree(path.rename(path.with_name(f".{path.name}.forgotten")))


def is_short(value: object) -> bool:
    """Say whether a value is one number or word."""
    return isinstance(value, int | float | str)


def _bare(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.partition("/")[2]: tensor for name, tensor in part.items()}


def _by_group(part: Mapping[str, Tensor]) -> str:
    counts = Counter(name.split("/")[1] for name in part)
    return ", ".join(f"{group} ({count} tensors)" for group, count in counts.items()) or "none yet"


def _require_finite(tensors: Mapping[str, Tensor]) -> None:
    broken = [
        name
        for name, tensor in tensors.items()
        if name.startswith(tuple(f"{part}/" for part in _LEARNED))
        and not bool(torch.isfinite(tensor).all())
    ]
    if broken:
        raise CheckpointError(
            f"NaN or infinity is in {', '.join(broken[:5])}: the run diverged. "
            "Lower run.learning_rate"
        )
