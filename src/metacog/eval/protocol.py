"""The whole measurement: fix every baseline on calibration questions, then open test once.

The thresholds of a layer were chosen on validation, so what it spends there is in-sample: baselines
are matched on calibration questions, which nothing has been fitted to.

Where a gate is in place it is in place in every arm that the learned budgets are compared with at
equal spend, so that budgets alone differ. What a user would have instead is the bare base: no gate
without a budget (`uncapped`), or under one constant cap (`cheapest_constant`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from metacog.eval.arms import GATED_ARM, LEARNED, LEARNED_ARM, MARGIN, PROMPT_ONLY_ARM, Arm, cap_arm
from metacog.eval.cheap import CheapCurve, Point
from metacog.eval.lengths import Difficulty, lengths_by_level
from metacog.eval.matching import (
    Matching,
    baseline_arms,
    bisect,
    cheapest_constant_arm,
    match_arms,
    with_wrong_lengths,
)
from metacog.eval.rows import EvalRow
from metacog.eval.runner import ReadyPoint, Runner, Uncapped

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
    """Constant caps on the test traces without a budget, exactly."""
    lengths: list[Difficulty]
    """What length is worth at each level, on the same traces."""
    oracle: dict[str, Point]
    """The best cuts at the spend of each learned arm, on the same traces."""


@dataclass(frozen=True)
class Runners:
    """The model on one set of questions and, where it has a gate, the same without it."""

    model: Runner
    bare: Runner | None = None

    def run_unlimited(self) -> tuple[Uncapped, Uncapped]:
        """Return what the bare base does without a budget, and the model; the same without a gate."""
        if self.bare is None:
            own = self.model.run_uncapped()
            return own, own
        return self.bare.run_uncapped(), self.model.run_uncapped(GATED_ARM)

    def run_bare(self, arm: Arm, unlimited: Uncapped) -> list[EvalRow]:
        """Return the rows of an arm of the bare base."""
        return (self.bare or self.model).run(arm, unlimited.needs)


def fix_baselines(runners: Runners, *, margin: float = MARGIN) -> Fixed:
    """Match every baseline to the learned arms, on the calibration questions of the runners."""
    own, unlimited = runners.run_unlimited()
    learned = {arm.name: runners.model.run(arm, unlimited.needs) for arm in AUTO_ARMS}
    replies = [*unlimited.rows, *chain.from_iterable(learned.values())]
    traces = with_wrong_lengths(unlimited.traces, replies)
    matchings = {name: match_arms(rows, traces) for name, rows in learned.items()}
    bare = with_wrong_lengths(own.traces, own.rows)
    return Fixed(matchings, cheapest_constant_arm(bare, margin=margin))


def measure_on_test(runners: Runners, fixed: Fixed, *, caps: Sequence[int] = ()) -> Measurement:
    """Run every arm on test questions, with all factors as they were fixed.

    Args:
        runners: On the test questions.
        fixed: From `fix_baselines`.
        caps: Constant caps to run beside the arms.
    """
    own, unlimited = runners.run_unlimited()
    rows = [*own.rows, *(unlimited.rows if unlimited is not own else ())]
    learned = {arm.name: runners.model.run(arm, unlimited.needs) for arm in AUTO_ARMS}
    others = [cap_arm(tokens) for tokens in caps]
    for name, found in learned.items():
        rows += found
        others += baseline_arms(fixed.matchings[name], found)
    for arm in others:
        rows += runners.model.run(arm, unlimited.needs)
    if fixed.cheapest_constant is not None:
        rows += runners.run_bare(fixed.cheapest_constant, own)
    curve = CheapCurve(with_wrong_lengths(unlimited.traces, rows))
    return Measurement(
        rows=rows,
        fixed=fixed,
        ready=unlimited.ready,
        curve=constant_curve(curve),
        lengths=lengths_by_level(
            curve.traces, {row.question_id: row.level for row in rows}, learned[LEARNED]
        ),
        oracle={name: oracle_at(curve, found) for name, found in learned.items()},
    )


def num_replies(num_matching: int, num_test: int, *, caps: int = 0, gated: bool = False) -> int:
    """Return how many replies a measurement takes, for its progress.

    Args:
        num_matching: Calibration questions times seeds.
        num_test: Test questions times seeds.
        caps: Number of constant caps that run beside the arms.
        gated: Whether the model has a gate, and runs without it too.
    """
    automatic = len(AUTO_ARMS)
    baselines = 4 * automatic
    free = 1 + gated
    return num_matching * (free + automatic) + num_test * (free + automatic + baselines + 1 + caps)


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
