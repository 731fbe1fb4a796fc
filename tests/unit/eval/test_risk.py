"""Risk control where the risk of every candidate is known, and where it is nano's own."""

from dataclasses import replace

import numpy as np
import pytest

from metacog.cli.operating import trace_points
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.eval.operating_point import Thresholds, TracePoints
from metacog.eval.risk import PolicyTable, candidates_around, control_risk, halves, policy_table
from metacog.model.bundle import load_model
from metacog.train.rollouts import collect_features

FIXED = Thresholds(1.0, 0.0, 1e6, 0.0, 0.0)
RISKS = np.array([0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08])


def known_table(traces: int, seed: int) -> PolicyTable:
    """Return candidates that lose a right answer with RISKS and spend 100, 90, ... tokens."""
    rng = np.random.default_rng(seed)
    loss = (rng.random((len(RISKS), traces)) < RISKS[:, None]).astype(float)
    tokens = np.tile((100.0 - 10 * np.arange(len(RISKS)))[:, None], (1, traces))
    return PolicyTable((FIXED,) * len(RISKS), loss, tokens)


def test_the_risk_is_kept_in_95_of_100_calibrations() -> None:
    chosen = []
    for seed in range(200):
        found = control_risk(known_table(2000, seed), *halves(2000, seed), risk=0.03)
        chosen.append(RISKS[found.index])
    assert np.mean(np.array(chosen) <= 0.03) >= 0.95
    assert np.median(chosen) >= 0.01  # and it is no guarantee of doing nothing


def test_more_questions_allow_more() -> None:
    few, many = (
        control_risk(known_table(n, 0), *halves(n, 0), risk=0.03).tokens for n in (600, 40_000)
    )
    assert many < few


def test_nothing_is_chosen_where_nothing_can_be_promised() -> None:
    assert control_risk(known_table(100, 0), *halves(100, 0), risk=0.03) is None


def test_losses_are_of_right_answers_alone() -> None:
    """Two traces of 10 tokens, read again at 4: closing there loses .8 of one and gains .5 on the other."""
    right = np.zeros((2, 11))
    right[:, 4], right[:, 10] = (0.2, 0.9), (1.0, 0.4)
    points = TracePoints(
        used=np.array([[4.0, 10.0]] * 2),
        valid=np.ones((2, 2), dtype=bool),
        reread=np.array([[True, False]] * 2),
        right=right,
        needed=np.full((2, 2), 50.0),
        ready=np.full((2, 2), 0.7),
        gain=np.full((2, 2), 0.2),
        budget=np.full(2, 100.0),
        factor=np.ones(2),
        given=np.full(2, np.nan),
        floor=np.ones(2),
    )
    table = policy_table(points, [FIXED, replace(FIXED, confident=0.5)])
    np.testing.assert_allclose(table.loss, [[0, 0], [0.8, 0]])
    assert table.tokens.tolist() == [[10, 10], [4, 4]]


def test_candidates_leave_the_budget_as_it_is() -> None:
    fixed = replace(FIXED, budget_scale=1.7, budget_offset=9.0, clip=(2.0, 90.0))
    for candidate in candidates_around(fixed):
        kept = replace(candidate, confident=0.0, hopeless=0.0, needed_scale=1e6)
        assert kept == fixed


@pytest.mark.slow
def test_the_risk_is_kept_over_200_resplits_of_nanos_own_traces() -> None:
    model, risk = load_model("nano"), 0.08
    questions = draw_questions(Split.CALIBRATION, 500, seed=5)
    points = trace_points(model, collect_features(model, questions, seed=5, every_token=True))
    blob = model.reader.calibration
    fixed = Thresholds(blob.budget_scale, blob.budget_offset, 1e6, 0.0, 0.0)
    table = policy_table(points, candidates_around(fixed))
    kept, tokens = [], []
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(500)
        found = control_risk(table, order[:150], order[150:350], risk=risk)
        assert found is not None
        kept.append(table.loss[found.index, order[350:]].mean() <= risk)
        tokens.append(table.tokens[found.index].mean())
    assert np.mean(kept) >= 0.95
    assert np.mean(tokens) < points.natural.mean()
