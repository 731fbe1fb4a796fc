"""Accuracy against length of thought, by difficulty: where more thinking stops helping.

The question of CoT-Space (Gan et al. 2025): accuracy rises with length up to an optimum that grows with
difficulty. Capped at L tokens, uncapped traces say what length buys; sorted by their own length, how
right the long ones are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from metacog.eval import metrics
from metacog.eval.cheap import CheapCurve, CheapTrace
from metacog.eval.rows import EvalRow

LOSS = 0.005
"""Accuracy below the best at which a length counts as enough."""
_CAPS, _PARTS = 24, 4


@dataclass(frozen=True)
class LengthPoint:
    """How right replies of some length are."""

    tokens: float
    """Mean of THINK."""
    accuracy: float


@dataclass(frozen=True)
class Difficulty:
    """What length is worth at one level of all families."""

    level: int
    traces: int
    capped: tuple[LengthPoint, ...]
    """Every trace closed under one cap, or at its end; the caps rise."""
    natural: tuple[LengthPoint, ...]
    """Traces as they end, a quarter at a time, the shortest first."""
    optimum: LengthPoint
    """Under the smallest cap within half a point of the best one."""
    optimum_cap: int
    uncapped: LengthPoint
    learned: LengthPoint | None
    """Mean length and accuracy under the learned budgets."""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def lengths_by_level(
    traces: Sequence[CheapTrace], levels: Mapping[str, int], learned: Sequence[EvalRow]
) -> list[Difficulty]:
    """Return what length is worth at each level, the easiest first.

    Args:
        traces: Uncapped, with the value of closing after every token.
        levels: Of each question by its id.
        learned: Rows of the learned arm.
    """
    groups: dict[int, list[CheapTrace]] = {}
    for trace in traces:
        groups.setdefault(levels[trace.question_id], []).append(trace)
    rows: dict[int, list[EvalRow]] = {}
    for row in learned:
        rows.setdefault(row.level, []).append(row)
    return [_difficulty(level, groups[level], rows.get(level, [])) for level in sorted(groups)]


def _difficulty(level: int, traces: Sequence[CheapTrace], rows: Sequence[EvalRow]) -> Difficulty:
    curve = CheapCurve(traces)
    longest = int(curve.natural.max())
    exact = [
        LengthPoint(
            float(np.minimum(cap, curve.natural).mean()), curve.accuracy(curve.constant(cap))
        )
        for cap in range(longest + 1)
    ]
    best = max(point.accuracy for point in exact)
    enough = next(cap for cap, point in enumerate(exact) if point.accuracy >= best - LOSS)
    shown = np.unique(np.concatenate([[0], np.geomspace(1, max(longest, 1), _CAPS)]).astype(int))
    accuracy = metrics.mean(row.correct for row in rows)
    used = metrics.mean(row.used for row in rows)
    return Difficulty(
        level=level,
        traces=len(traces),
        capped=tuple(exact[cap] for cap in shown),
        natural=_by_natural_length(traces),
        optimum=exact[enough],
        optimum_cap=enough,
        uncapped=LengthPoint(float(curve.natural.mean()), curve.uncapped.accuracy),
        learned=None if accuracy is None or used is None else LengthPoint(used, accuracy),
    )


def _by_natural_length(traces: Sequence[CheapTrace]) -> tuple[LengthPoint, ...]:
    ordered = sorted(traces, key=lambda trace: trace.natural)
    parts = np.array_split(np.arange(len(ordered)), min(_PARTS, len(ordered)))
    return tuple(
        LengthPoint(
            float(np.mean([ordered[index].natural for index in part])),
            float(np.mean([ordered[index].right[-1] for index in part])),
        )
        for part in parts
    )
