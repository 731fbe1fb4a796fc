"""The processes that train together, as `accelerate launch` starts them: what they tell each other.

Only the first one writes. All of them call every method here equally often and in the same order.
What they exchange is JSON or plain bytes, as tensors; nothing is pickled.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, distributed

from metacog.errors import ConfigError, MetacogError, RunError

Item = TypeVar("Item")
Strategy = Literal["none", "ddp", "fsdp2"]
"""Each process holds all that learns and gradients are averaged, or holds a share of it."""

_PATIENCE = timedelta(hours=12)
"""Others wait that long while one collects rollouts; one that has died is noticed at once."""


class ProcessLost(RunError):
    """Another process of the run has ended."""


@dataclass(frozen=True)
class Processes:
    """One process among those of a run."""

    rank: int = 0
    size: int = 1
    strategy: Strategy = "none"
    accelerator: Accelerator | None = None
    """None where there is one process alone."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    @property
    def told(self) -> str:
        """Number and strategy, such as `2 ddp`; a checkpoint goes on with the same."""
        return "1" if self.size == 1 else f"{self.size} {self.strategy}"

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this process's part of what is the same on all, of equal length, in order."""
        each = len(items) // self.size
        return items[self.rank * each : (self.rank + 1) * each]

    def gather(self, value: Any) -> list[Any]:
        """Return the JSON value of each process, in their order.

        Raises:
            ProcessLost: If one of them has ended.
        """
        if self.size == 1:
            return [value]
        return [json.loads(part) for part in self.gather_bytes(json.dumps(value).encode())]

    def gather_bytes(self, mine: bytes) -> list[bytes]:
        """Return the bytes of each process, in their order.

        Raises:
            ProcessLost: If one of them has ended.
        """
        if self.size == 1:
            return [mine]
        assert self.accelerator is not None
        place = self.accelerator.device
        with noticing_loss():
            lengths = _gathered(torch.tensor([len(mine)], device=place), self.size)
            longest = max(int(length) for length in lengths)
            sent = torch.zeros(max(1, longest), dtype=torch.uint8, device=place)
            sent[: len(mine)] = torch.from_numpy(np.frombuffer(mine, dtype=np.uint8).copy())
            parts = _gathered(sent, self.size)
        return [
            part[: int(length)].cpu().numpy().tobytes()
            for part, length in zip(parts, lengths, strict=True)
        ]

    def any(self, is_so: bool) -> bool:
        """Return whether it is so on one process at least."""
        return any(self.gather(is_so))

    def largest(self, value: int) -> int:
        """Return the largest of what the processes pass."""
        return max(int(other) for other in self.gather(value))

    def totals(self, counts: Mapping[Item, Tensor]) -> dict[Item, Tensor]:
        """Return counts by name, each summed over the processes, which all have the same names."""
        if self.size == 1:
            return dict(counts)
        columns = self.gather([float(count) for count in counts.values()])
        sums = [sum(column) for column in zip(*columns, strict=True)]
        return {name: torch.tensor(total) for name, total in zip(counts, sums, strict=True)}

    def first(self, do: Callable[[], Item]) -> Item | None:
        """Do something on the first process while the others wait; they get None.

        Raises:
            MetacogError: What the first process raises; on the others one that says the same.
        """
        if self.size == 1:
            return do()
        found: Item | None = None
        fault: MetacogError | None = None
        if self.is_first:
            try:
                found = do()
            except MetacogError as error:
                fault = error
        told = self.gather(None if fault is None else str(fault))[0]
        if fault is not None:
            raise fault
        if told is not None:
            raise RunError(told)
        return found

    def together(self, do: Callable[[], Item]) -> Item:
        """Do something on every process, and fail on all of them where one fails.

        Raises:
            MetacogError: What this process raises, or one that says what another one raised.
        """
        if self.size == 1:
            return do()
        fault: MetacogError | None = None
        try:
            found = do()
        except MetacogError as error:
            fault = error
        told = self.gather(None if fault is None else str(fault))
        if fault is not None:
            raise fault
        for rank, message in enumerate(told):
            if message is not None:
                raise RunError(f"Process {rank} failed: {message}")
        return found


ALONE = Processes()


@contextmanager
def noticing_loss() -> Iterator[None]:
    """Tell in our own words when another process has gone in the middle of an exchange."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(
            "Wanted an answer from the other processes, but one has ended; look at what it wrote "
            f"last, then go on with --resume auto. ({str(error).splitlines()[0]})"
        ) from error


@contextmanager
def joined(*, parts_differ: bool = False) -> Iterator[Processes]:
    """Join the processes that were launched together, where there is more than one.

    Args:
        parts_differ: Whether some passes of a step leave parameters out that others use.

    Raises:
        ConfigError: If they were launched in a way that training does not support.
    """
    if launched() == 1:
        yield ALONE
        return
    strategy = strategy_of()
    # Each process loads the base itself; transformers would leave it empty on all but the first.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="no",
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=_PATIENCE),
            DistributedDataParallelKwargs(
                find_unused_parameters=parts_differ, broadcast_buffers=False
            ),
        ],
    )
    if accelerator.device.type != "cpu":  # what a step makes lies where it is computed
        torch.set_default_device(accelerator.device)
    try:
        yield Processes(accelerator.process_index, accelerator.num_processes, strategy, accelerator)
    finally:
        torch.set_default_device(None)
        accelerator.end_training()


def launched() -> int:
    """Return how many processes were launched together, known before they have joined."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Return whether this process is the one that writes, known before they have joined."""
    return int(os.environ.get("RANK", "0")) == 0


def strategy_of() -> Strategy:
    """Return how the launcher wants gradients exchanged.

    Raises:
        ConfigError: If it wants anything that training does not do.
    """
    wanted = {
        "ACCELERATE_MIXED_PRECISION": ("no", "model.precision says how a base computes"),
        "ACCELERATE_USE_DEEPSPEED": ("false", "use DDP or FSDP2"),
        "FSDP_OFFLOAD_PARAMS": ("false", "parameters stay where they are trained"),
        "FSDP_ACTIVATION_CHECKPOINTING": ("false", "set model.grad_checkpoint instead"),
    }
    for key, (value, remedy) in wanted.items():
        got = os.environ.get(key, value)
        if got.lower() != value:
            raise ConfigError(
                f"The launcher's settings wanted {key} to be {value}, got {got}; {remedy}."
            )
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return "ddp"
    version = os.environ.get("FSDP_VERSION", "1")
    if version != "2":
        raise ConfigError(
            f"The launcher's settings wanted fsdp_version 2, got {version}. Set it in the file "
            "that --config_file names."
        )
    return "fsdp2"


def _gathered(tensor: Tensor, size: int) -> list[Tensor]:
    found = [torch.empty_like(tensor) for _ in range(size)]
    distributed.all_gather(found, tensor)
    return found
