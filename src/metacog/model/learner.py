"""What learns as one module: every gradient passes through its forward pass."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from metacog.model.bundle import MetacogModel
from metacog.model.gate import FeedbackGate
from metacog.model.metacog import MetacogLayer

Compute = Callable[["Learner"], AbstractContextManager[Any]]
"""Gives the result of one pass, whose `loss` has a gradient, and keeps its hooks in place."""


class Learner(nn.Module):
    """Base, layer and gate, each where a pass needs it.

    Wrappers for several processes know the parameters that are registered here, and follow what
    happens inside `forward`. So the loss is computed there, with hooks that last until the
    gradient has been taken.
    """

    def __init__(
        self,
        *,
        base: PreTrainedModel | None = None,
        layer: MetacogLayer | None = None,
        gate: FeedbackGate | None = None,
    ) -> None:
        super().__init__()
        self.base, self.layer, self.gate = base, layer, gate

    @classmethod
    def of(cls, model: MetacogModel) -> "Learner":
        """Return the modules of a model as one."""
        layer = None if model.reader is None else model.reader.layer
        return cls(base=model.base.model, layer=layer, gate=model.gate)

    def forward(self, compute: Compute, hooks: ExitStack) -> tuple[Tensor, Any]:
        """Return the loss of a pass and the whole result.

        Args:
            compute: The pass.
            hooks: Closed by the caller once the gradient has been taken.
        """
        result = hooks.enter_context(compute(self))
        return result.loss, result

    def inside(self, model: MetacogModel) -> MetacogModel:
        """Return a model that computes with these modules in the place of its own."""
        base, reader = model.base, model.reader
        if self.base is not None and self.base is not base.model:
            base = replace(base, model=self.base)
        if self.layer is not None and reader is not None and self.layer is not reader.layer:
            reader = copy.copy(reader)
            reader.layer = self.layer
        return replace(model, base=base, reader=reader, gate=self.gate or model.gate)
