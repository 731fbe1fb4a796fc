"""How far re-readings may go at a risk that the user names, with a guarantee for finite samples.

The risk is that of losing an answer which thinking to its natural end would have got right:

    R(t) = E[ max(0, right_i(natural) - right_i(stop_i(t))) ]        t the thresholds, budget included

It bounds the loss of accuracy from above. Candidates are put in order on one half of the traces, from
the safest to the thriftiest, and tested in that order on the other half, each test at the level delta,
until one fails: fixed sequence testing behind a learned order (Laufer-Goldshtein et al. 2023,
"Efficiently controlling multiple risks with Pareto testing"), within Learn then Test (Angelopoulos et
al. 2021). P-values are Hoeffding and Bentkus's, which hold for any n. So for all but a share delta of
calibrations R of what is chosen lies at or below the risk, on questions drawn like the calibration's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from mapie.risk_control.fwer_control import control_fwer
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from numpy import ndarray

from metacog.eval.operating_point import (
    GAINS,
    NEEDED_SCALES,
    Thresholds,
    TracePoints,
    right_at,
    stops,
)

DELTA = 0.05
"""Share of calibrations that may break the risk."""


@dataclass(frozen=True)
class PolicyTable:
    """What each candidate does to each trace."""

    candidates: tuple[Thresholds, ...]
    loss: Float[ndarray, "candidates traces"]
    """max(0, right at the natural end - right where the candidate closes)."""
    tokens: Float[ndarray, "candidates traces"]
    """THINK tokens."""


@dataclass(frozen=True)
class Controlled:
    """The thriftiest candidate that keeps the risk, with what it does on the traces it was tested on."""

    index: int
    thresholds: Thresholds
    loss: float
    tokens: float


def never_acting(fixed: Thresholds) -> Thresholds:
    """Return thresholds under which re-readings change nothing."""
    return replace(fixed, confident=0.0, hopeless=0.0, needed_scale=1e6)


def candidates_around(fixed: Thresholds) -> list[Thresholds]:
    """Return every combination of re-reading thresholds, the budget as it is fixed."""
    grid = product(GAINS, GAINS, NEEDED_SCALES)
    return [replace(fixed, confident=c, hopeless=h, needed_scale=n) for c, h, n in grid]


def policy_table(points: TracePoints, candidates: Sequence[Thresholds]) -> PolicyTable:
    """Return losses and tokens of all candidates on all traces."""
    whole = right_at(points, points.natural)
    stopped = [stops(points, candidate) for candidate in candidates]
    loss = np.stack([np.maximum(0.0, whole - right_at(points, stop)) for stop in stopped])
    return PolicyTable(tuple(candidates), loss, np.stack(stopped))


def control_risk(
    table: PolicyTable,
    order: Int[ndarray, " ordered"],
    tested: Int[ndarray, " tested"],
    *,
    risk: float,
    delta: float = DELTA,
) -> Controlled | None:
    """Return the thriftiest candidate whose risk is kept with confidence 1 - delta.

    Args:
        table: What candidates do to traces.
        order: Traces on which candidates are put in order.
        tested: Other traces, on which they are tested.
        risk: Probability of losing a right answer that is accepted.
        delta: Share of calibrations that may break it.

    Returns:
        None where not even the safest candidate passes its test.
    """
    path = _frontier(table.loss[:, order].mean(axis=1), table.tokens[:, order].mean(axis=1))
    losses = table.loss[np.ix_(path, tested)].mean(axis=1)
    p_values = compute_hoeffding_bentkus_p_value(losses, len(tested), risk)[:, 0]
    passed = control_fwer(p_values, delta, "split_fixed_sequence")
    if len(passed) == 0:
        return None
    tokens = table.tokens[np.ix_(path[passed], tested)].mean(axis=1)
    place = int(passed[int(tokens.argmin())])
    index = int(path[place])
    return Controlled(index, table.candidates[index], float(losses[place]), float(tokens.min()))


def halves(traces: int, seed: int) -> tuple[Int[ndarray, " half"], Int[ndarray, " half"]]:
    """Return two halves of the traces at random: to order on and to test on."""
    shuffled = np.random.default_rng(seed).permutation(traces)
    return shuffled[: traces // 2], shuffled[traces // 2 :]


def thirds(
    traces: int, seed: int
) -> tuple[Int[ndarray, " third"], Int[ndarray, " third"], Int[ndarray, " third"]]:
    """Return three parts of the traces at random: to order on, to fit a budget to, and to test both on."""
    first, second, third = np.array_split(np.random.default_rng(seed).permutation(traces), 3)
    return first, second, third


def _frontier(
    loss: Float[ndarray, " candidates"], tokens: Float[ndarray, " candidates"]
) -> Int[ndarray, " path"]:
    """Return the candidates that none beats in both, in rising order of loss."""
    order = np.lexsort((tokens, loss))
    best = np.minimum.accumulate(tokens[order])
    thriftier = np.concatenate([[True], tokens[order][1:] < best[:-1]])
    path: Int[ndarray, " path"] = order[thriftier]
    return path
