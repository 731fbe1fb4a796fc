"""How the passes of a step go through what learns: on one process, replicated, or sharded."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from typing import Any, Protocol, runtime_checkable

from torch import nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import register_dataclass

from metacog.model.base import decoder_blocks
from metacog.model.learner import Compute, Learner
from metacog.model.outputs import LayerOutput, RereadOutput
from metacog.train.guards import Guards
from metacog.train.optim import Optimizers, whole_of
from metacog.train.processes import ALONE, Processes, noticing_loss

_METHODS = {"layer": ("read", "reread", "confidence"), "gate": ("gamma", "on")}
"""What of layer and gate is called in a pass, beside `forward`, and uses their parameters."""


@runtime_checkable
class Learning(Protocol):
    """What is trained, as far as passes are concerned."""

    optimizers: Optimizers

    def learner(self) -> Learner:
        """Return the modules that passes go through."""


class Passage:
    """The way of every pass and its gradient.

    With `ddp` each process holds all that learns. With `fsdp2` it learns a share of each parameter;
    the whole model stays beside, for rollouts, evaluations and saving, and follows every step.

    Args:
        objective: What is trained. Its optimizers learn shards from here on where there are any.
        processes: Over which.
        guards: What every step must hold to.
    """

    def __init__(
        self, objective: Learning, processes: Processes = ALONE, guards: Guards | None = None
    ) -> None:
        self.processes = processes
        self.guards = guards or Guards()
        self.optimizers = objective.optimizers
        self._module: nn.Module = objective.learner()
        if processes.strategy == "ddp":
            assert processes.accelerator is not None
            self._module = processes.accelerator.prepare(self._module)
        elif processes.strategy == "fsdp2":
            self._module = _sharded(objective.learner(), objective.optimizers)

    @contextmanager
    def run(self, compute: Compute, *, is_last: bool) -> Iterator[Any]:
        """Give the result of a pass, its hooks in place until the block ends.

        Args:
            compute: The pass.
            is_last: Whether it is the step's last, after which gradients are exchanged.
        """
        with ExitStack() as hooks:
            if isinstance(self._module, DistributedDataParallel) and not is_last:
                hooks.enter_context(self._module.no_sync())
            with noticing_loss() if self.processes.size > 1 else nullcontext():
                _, result = self._module(compute, hooks)
            yield result

    def backward(self, result: Any) -> None:
        """Take the gradient of a pass.

        Processes average their gradients, and those of a sum over all labels add up: so the loss
        counts as often as there are processes.

        Raises:
            ProcessLost: If another process has ended.
        """
        with noticing_loss() if self.processes.size > 1 else nullcontext():
            (result.loss * self.processes.size).backward()

    def clip(self, largest: float) -> float:
        """Scale gradients down to a norm, taken over all shards; return what it was before.

        Raises:
            ProcessLost: If another process has ended.
        """
        with noticing_loss() if self.processes.size > 1 else nullcontext():
            return float(whole_of(nn.utils.clip_grad_norm_(self.optimizers.parameters, largest)))


def _sharded(whole: Learner, optimizers: Optimizers) -> Learner:
    """Return a copy of what learns, cut into shards, which `optimizers` learn from now on.

    Every decoder block, the layer and the gate is a unit: gathered when it is needed, of one number
    type. What the base holds beside its blocks is the last unit.
    """
    mine = copy.deepcopy(whole)
    _make_findable()
    if mine.base is not None:
        for block in decoder_blocks(mine.base):
            fully_shard(block)
    for name, methods in _METHODS.items():
        module = getattr(mine, name)
        if module is not None:
            fully_shard(module, reshard_after_forward=False)
            for method in methods:
                register_fsdp_forward_method(module, method)
    fully_shard(mine)
    shards = dict(mine.named_parameters())
    optimizers.move({p: shards[name] for name, p in whole.named_parameters()})
    return mine


@cache
def _make_findable() -> None:
    """Let tensors be found in what a unit returns: their gradient tells it to gather itself."""
    for output in (LayerOutput, RereadOutput):
        register_dataclass(output)
