"""One row of the P table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from metacog.eval.bootstrap import statistic_ci95

Json = dict[str, Any]
RESAMPLES = 500


@dataclass(frozen=True)
class Row:
    """A measure with its gate; what was not measured is None and says why."""

    value: float | None
    n: int
    """Questions."""
    seeds: tuple[int, ...]
    """Sampling seeds."""
    gate: str
    """What the value has to reach, in words."""
    met: bool | None
    """None where it was not measured."""
    ci95: tuple[float, float] | None = None
    bound: float | None = None
    """One-sided 95 % bound, where that is what the gate holds."""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> Json:
        """Return the row as plain values."""
        return {
            "value": self.value,
            "ci95": None if self.ci95 is None else list(self.ci95),
            "bound": self.bound,
            "n": self.n,
            "seeds": list(self.seeds),
            "gate": self.gate,
            "met": self.met,
            **self.detail,
        }


def missing(gate: str, why: str) -> Row:
    """Return a row that was not measured."""
    return Row(None, 0, (), gate, None, detail={"missing": why})


def all_met(*claims: bool | None) -> bool | None:
    """Return whether every claim holds; False where one fails, else None where one is not known."""
    if any(claim is False for claim in claims):
        return False
    return None if any(claim is None for claim in claims) else True


def at_least(value: float | None, least: float) -> bool | None:
    """Return whether a value reaches its gate; None where there is no value."""
    return None if value is None else bool(value >= least)


def interval(
    questions: Sequence[str],
    statistic: Callable[[Int[np.ndarray, " rows"]], float | None],
    *,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """Return the 95 % interval of a statistic over questions, their seeds nested."""
    return statistic_ci95(questions, statistic, resamples=resamples)
