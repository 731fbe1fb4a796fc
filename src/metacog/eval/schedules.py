"""When to read again: what fewer re-readings than one at every line end cost, on the same traces.

A schedule is a mask over the line ends of uncapped traces. Thresholds are chosen anew under each, on
one half of the traces, and judged on the other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from metacog.eval.operating_point import (
    TracePoints,
    choose_operating_point,
    right_at,
    stops,
)

Mask = Bool[ndarray, "traces points"]
Schedule = Callable[[TracePoints], Mask]


def every_line(points: TracePoints) -> Mask:
    """Return all line ends."""
    found: Mask = points.reread & points.valid
    return found


def every_nth_line(n: int) -> Schedule:
    """Return the schedule of each n-th line end."""

    def chosen(points: TracePoints) -> Mask:
        rereads = every_line(points)
        found: Mask = rereads & (rereads.cumsum(axis=1) % n == 0)
        return found

    return chosen


def apart(tokens: int) -> Schedule:
    """Return the schedule of the first line end after each so many THINK tokens."""
    return _spaced(
        lambda points: np.full(points.used.shape, float(tokens)), lambda _: float(tokens)
    )


def by_need(share: float) -> Schedule:
    """Return the learned schedule: wait for a share of the tokens that the layer still expects.

    Before the first re-reading that is the budget predicted at the prompt.
    """
    return _spaced(lambda points: share * points.needed, lambda points: share * points.budget)


def _spaced(
    wait: Callable[[TracePoints], Float[ndarray, "traces points"]],
    first: Callable[[TracePoints], Float[ndarray, " traces"] | float],
) -> Schedule:
    def chosen(points: TracePoints) -> Mask:
        rereads, waits = every_line(points), wait(points)
        found = np.zeros_like(rereads)
        due = np.broadcast_to(first(points), (len(rereads),)).astype(np.float64)
        for column in range(rereads.shape[1]):
            reads = rereads[:, column] & (points.used[:, column] >= due)
            found[:, column] = reads
            due = np.where(reads, points.used[:, column] + waits[:, column], due)
        return found

    return chosen


SCHEDULES: Mapping[str, Schedule] = {
    "every line end": every_line,
    "every second line end": every_nth_line(2),
    "every fourth line end": every_nth_line(4),
    "16 tokens apart": apart(16),
    "32 tokens apart": apart(32),
    "learned, half of what is needed": by_need(0.5),
    "learned, all that is needed": by_need(1.0),
    "never": lambda points: np.zeros_like(points.reread),
}


@dataclass(frozen=True)
class Found:
    """What a schedule comes to, as means over halves that its thresholds were not chosen on."""

    schedule: str
    accuracy: float
    think_tokens: float
    rereadings: float
    """A reply, up to where THINK closes."""


def compare_schedules(
    points: TracePoints,
    *,
    margin: float,
    schedules: Mapping[str, Schedule] = SCHEDULES,
    halvings: int = 10,
    seed: int = 0,
) -> list[Found]:
    """Return each schedule's accuracy, tokens and re-readings.

    Args:
        points: Uncapped traces with what the layer said at every line end.
        margin: Accuracy that thresholds may lose where they are chosen.
        schedules: By name.
        halvings: Random halvings; each half chooses once and is judged once.
        seed: Of the halvings.
    """
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(points.budget)) for _ in range(halvings)]
    return [
        _judged(name, replace(points, reread=schedule(points)), orders, margin)
        for name, schedule in schedules.items()
    ]


def _judged(name: str, points: TracePoints, orders: Sequence[ndarray], margin: float) -> Found:
    seen = []
    for order in orders:
        for chooses, judges in (halves := np.array_split(order, 2)), halves[::-1]:
            best = choose_operating_point(_some(points, chooses), margin=margin).thresholds
            rest = _some(points, judges)
            stop = stops(rest, best)
            read = rest.reread & rest.valid & (rest.used <= stop[:, None])
            seen.append((right_at(rest, stop).mean(), stop.mean(), read.sum(axis=1).mean()))
    return Found(name, *np.mean(seen, axis=0).tolist())


def _some(points: TracePoints, chosen: ndarray) -> TracePoints:
    return TracePoints(**{name: values[chosen] for name, values in vars(points).items()})
