"""Steps that must not be taken: a loss or gradient that is no number, or a loss far beyond the usual.

Such a step is a strike: the optimizer is not stepped, what the batch was made of is told, and the
run goes on with the next batch. After `run.strikes` of them in a row it stops.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol, runtime_checkable

from metacog.config.run import TrainingConfig
from metacog.losses.combine import LossName

_RECENT = 50
_FEWEST = 10
"""Steps whose losses must be known before one counts as far beyond them."""
_NAMED = 3
"""Examples that a message names; the event holds all."""


@runtime_checkable
class Traceable(Protocol):
    """An objective that can say what a batch is made of."""

    def examples(self, batch: Any) -> Sequence[str]:
        """Return the id of each example, or where it came from."""


@dataclass(frozen=True)
class Strike:
    """A step that was not taken."""

    message: str
    is_last: bool
    """Whether the run must stop now."""

    def of(self, examples: Sequence[str]) -> str:
        """Return the message with some of the examples that its batch was made of."""
        if not examples:
            return self.message
        more = "" if len(examples) <= _NAMED else f" and {len(examples) - _NAMED} more"
        return f"{self.message} Its batch: {', '.join(examples[:_NAMED])}{more}."


def examples_of(objective: object, batch: object) -> Sequence[str]:
    """Return what a batch is made of, where its objective can say so."""
    return objective.examples(batch) if isinstance(objective, Traceable) else ()


class Strikes:
    """Judges each step before the optimizer moves a weight.

    A loss is far beyond the usual where

        sum_i |w_i L_i|  >  run.spike * median over recent steps of the same

    with L_i the losses and w_i their weights: a sum of sizes, because losses of either sign may
    cancel to almost nothing.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._most, self._spike = config.strikes, config.spike
        self._sizes: deque[float] = deque(maxlen=_RECENT)
        self._in_a_row = 0

    def judge(
        self,
        step: int,
        metrics: Mapping[str, float],
        weights: Mapping[LossName, float],
        *,
        loss: float,
        norm: float,
    ) -> Strike | None:
        """Return what is wrong with a step, or None where it may be taken.

        Args:
            step: Its number.
            metrics: Its losses by event name.
            weights: Of the losses.
            loss: What is descended.
            norm: Of the gradient.
        """
        values = [abs(w) * abs(metrics.get(f"train/loss_{n}", 0.0)) for n, w in weights.items()]
        fault = self._fault(step, loss, norm, sum(values))
        if fault is None:
            self._sizes.append(sum(values))
            self._in_a_row = 0
            return None
        self._in_a_row += 1
        is_last = self._in_a_row >= self._most
        return Strike(f"{fault} {self._remedy(is_last)}", is_last)

    def state(self) -> dict[str, Any]:
        """Return what it knows, as JSON values."""
        return {"in_a_row": self._in_a_row, "sizes": list(self._sizes)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        self._in_a_row = int(state["in_a_row"])
        self._sizes = deque(state["sizes"], maxlen=_RECENT)

    def _fault(self, step: int, loss: float, norm: float, size: float) -> str | None:
        for what, value in (("loss", loss), ("gradient", norm)):
            if not math.isfinite(value):
                return f"Wanted a finite {what}, got NaN or infinity at step {step}."
        usual = median(self._sizes) if len(self._sizes) >= _FEWEST else 0.0
        if self._spike is not None and usual > 0 and size > self._spike * usual:
            return (
                f"Wanted a loss within {self._spike:g} times the usual {usual:.3g} (run.spike), got "
                f"{size:.3g} at step {step}."
            )
        return None

    def _remedy(self, is_last: bool) -> str:
        if not is_last:
            return (
                f"The step is left out, the weights are as they were before it (strike "
                f"{self._in_a_row} of {self._most} in a row)."
            )
        return (
            f"The weights are as they were before it. Look at the data of this step, lower "
            f"run.learning_rate, or go back to a checkpoint with --resume (strike {self._in_a_row} "
            f"of {self._most} in a row, run.strikes)."
        )
