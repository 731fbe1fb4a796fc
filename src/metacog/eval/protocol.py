"""The whole measurement: fix every baseline on calibration questions, then open test once.

The thresholds of a layer were chosen on validation, so what it spends there is in-sample: baselines
are matched on calibration questions, which nothing has been fitted to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from metacog.eval.arms import (
    LEARNED_ARM,
    MARGIN,
    PROMPT_ONLY_ARM,
    Arm,
    cap_arm,
)
from metacog.eval.cheap import CheapCurve, Point
from metacog.eval.matching import (
    Matching,
    baseline_arms,
    bisect,
    cheapest_constant_arm,
    match_arms,
    with_wrong_lengths,
)
from metacog.eval.rows import EvalRow
from metacog.eval.runner import ReadyPoint, Runner

AUTO_ARMS = (LEARNED_ARM, PROMPT_ONLY_ARM)


@dataclass(frozen=True)
class Fixed:
    """What was decided on calibration questions."""

    matchings: dict[str, Matching]
    """By name of the learned arm."""
    cheapest_constant: Arm | None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        caps = None if self.cheapest_constant is None else self.cheapest_constant.caps
        return {
            **{name: matching.as_json() for name, matching in self.matchings.items()},
            "cheapest_constant": None if caps is None else vars(caps),
        }


@dataclass(frozen=True)
class Measurement:
    """What a measurement found, ready to be summarised."""

    rows: list[EvalRow]
    fixed: Fixed
    ready: list[ReadyPoint]
    curve: list[Point]
    """Constant caps on the uncapped test traces, exactly."""
    oracle: dict[str, Point]
    """The best cuts at the spend of each learned arm, on the uncapped test traces."""


def fix_baselines(runner: Runner, *, margin: float = MARGIN) -> Fixed:
    """Match every baseline to the learned arms, on the calibration questions of a runner."""
    uncapped = runner.run_uncapped()
    learned = {arm.name: runner.run(arm, uncapped.needs) for arm in AUTO_ARMS}
    replies = [*uncapped.rows, *chain.from_iterable(learned.values())]
    traces = with_wrong_lengths(uncapped.traces, replies)
    matchings = {name: match_arms(rows, traces) for name, rows in learned.items()}
    return Fixed(matchings, cheapest_constant_arm(traces, margin=margin))


def measure_on_test(runner: Runner, fixed: Fixed, *, caps: Sequence[int] = ()) -> Measurement:
    """Run every arm on test questions, with all factors as they were fixed.

    Args:
        runner: On the test questions.
        fixed: From `fix_baselines`.
        caps: Constant caps to run beside the arms.
    """
    uncapped = runner.run_uncapped()
    rows = list(uncapped.rows)
    learned = {arm.name: runner.run(arm, uncapped.needs) for arm in AUTO_ARMS}
    others = [cap_arm(tokens) for tokens in caps]
    if fixed.cheapest_constant is not None:
        others.append(fixed.cheapest_constant)
    for name, found in learned.items():
        rows += found
        others += baseline_arms(fixed.matchings[name], found)
    for arm in others:
        rows += runner.run(arm, uncapped.needs)
    curve = CheapCurve(with_wrong_lengths(uncapped.traces, rows))
    return Measurement(
        rows=rows,
        fixed=fixed,
        ready=uncapped.ready,
        curve=constant_curve(curve),
        oracle={name: oracle_at(curve, found) for name, found in learned.items()},
    )


def num_replies(num_matching: int, num_test: int, *, caps: int = 0) -> int:
    """Return how many replies a measurement takes, for its progress.

    Args:
        num_matching: Calibration questions times seeds.
        num_test: Test questions times seeds.
        caps: Number of constant caps that run beside the arms.
    """
    automatic = len(AUTO_ARMS)
    baselines = 4 * automatic
    return num_matching * (1 + automatic) + num_test * (1 + automatic + baselines + 1 + caps)


def constant_curve(curve: CheapCurve, *, points: int = 40) -> list[Point]:
    """Return accuracy and spend of constant caps from 0 to the longest trace."""
    longest = float(curve.natural.max())
    caps = np.unique(np.concatenate([[0.0], np.geomspace(1.0, max(longest, 1.0), points)]))
    return [curve.point(curve.constant(float(cap))) for cap in caps]


def oracle_at(curve: CheapCurve, rows: Sequence[EvalRow]) -> Point:
    """Return what the best cuts reach at the mean spend of some rows, or below if that is enough."""
    target = float(np.mean([row.spend for row in rows]))
    generosity = bisect(lambda x: curve.spend(curve.oracle(1 - x)), target, 0.0, 1.0, 1e-9)
    return curve.point(curve.oracle(1 - generosity))
