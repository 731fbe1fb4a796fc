from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.questions import Question
from metacog.data.tasks.splits import Split
from metacog.eval.cheap import CheapCurve, CheapTrace
from metacog.eval.contrasts import Json, Resampling
from metacog.eval.protocol import (
    Fixed,
    Measurement,
    Runners,
    constant_curve,
    fix_baselines,
    measure_on_test,
    num_replies,
    oracle_at,
)
from metacog.eval.rows import EvalRow, RowKey
from metacog.eval.runner import Runner
from metacog.eval.summary import summarise_measurement
from tests.unit.eval.hand import Script, row, setup_of

FAMILIES = ("gcd", "ab", "chain_sum", "leg_counting")
SIZE = {"gcd": 12, "ab": 30, "chain_sum": 18, "leg_counting": 45}
SEEDS = [0, 1]


def script(question: Question) -> Script:
    """Return a world where need varies in a family and natural length hardly tells it."""
    rng = Random(question.id)
    need = max(1, round(SIZE[question.family] * rng.uniform(0.3, 1.7)))
    natural = round(need * rng.uniform(1.2, 2.6)) + 3
    predicted = max(1, round(need * rng.uniform(0.9, 1.5)))
    solved = rng.random() < 0.8
    return Script(natural, need if solved else None, predicted, min(natural, need + 2))


def runner_of(split: Split, n: int) -> Runner:
    questions = draw_questions(split, n, families=FAMILIES)
    return Runner(
        setup_of(questions, [script(question) for question in questions]), questions, SEEDS
    )


@pytest.fixture(scope="module")
def fixed() -> Fixed:
    return fix_baselines(Runners(runner_of(Split.CALIBRATION, 320)))


@pytest.fixture(scope="module")
def found(fixed: Fixed) -> Measurement:
    return measure_on_test(Runners(runner_of(Split.TEST, 120)), fixed, caps=[5, 20])


@pytest.fixture(scope="module")
def summary(found: Measurement) -> Json:
    return summarise_measurement(found, Resampling(200))


def test_every_arm_is_run_on_every_question_and_seed(found: Measurement) -> None:
    counts = Counter(row.arm for row in found.rows)
    assert set(counts.values()) == {240}
    baselines = ("constant", "label", "permuted", "permuted_within")
    assert set(counts) == {
        "uncapped",
        "learned",
        "prompt_only",
        "cheapest_constant",
        "cap.5",
        "cap.20",
        *(f"{arm}.{name}" for arm in ("learned", "prompt_only") for name in baselines),
    }
    assert len(found.rows) == num_replies(0, 240, caps=2)


@pytest.fixture(scope="module")
def gated() -> Measurement:
    """A gate that takes three tokens away, on a quarter of the questions."""

    def runners(split: Split, n: int) -> Runners:
        questions = draw_questions(split, n, families=FAMILIES)
        scripts = [script(question) for question in questions]
        longer = [replace(s, natural=s.natural + 3) for s in scripts]
        found = (Runner(setup_of(questions, each), questions, SEEDS) for each in (scripts, longer))
        return Runners(*found)

    return measure_on_test(runners(Split.TEST, 60), fix_baselines(runners(Split.CALIBRATION, 80)))


def test_with_a_gate_the_bare_base_is_what_the_model_is_compared_with(gated: Measurement) -> None:
    counts = Counter(row.arm for row in gated.rows)
    assert set(counts.values()) == {120}
    assert len(gated.rows) == num_replies(0, 120, gated=True)
    by_arm: dict[str, dict[RowKey, EvalRow]] = {}
    for found in gated.rows:
        by_arm.setdefault(found.arm, {})[found.key] = found
    bare, free = by_arm["uncapped"], by_arm["gated"]
    assert all(bare[key].used == free[key].used + 3 for key in free)
    cheapest = by_arm["cheapest_constant"].values()
    assert any(r.used > free[r.key].used for r in cheapest), "a constant cap of the bare base"
    assert all(r.used <= free[r.key].used for r in by_arm["learned.constant"].values())

    summary = summarise_measurement(gated, Resampling(100))
    gate = summary["gate"]
    spent = [sum(r.spend for r in arm.values()) for arm in (free, bare)]
    assert gate["saving"]["mean"] == pytest.approx(1 - spent[0] / spent[1])
    assert gate["delta_accuracy"]["mean"] == 0
    whole = summary["uncapped"]["spend_mean"]
    assert summary["saving"]["mean"] == pytest.approx(1 - summary["spend_mean"] / whole)
    assert summary["uncapped"]["spend_mean"] == pytest.approx(gate["spend_mean"] + 3)


def test_without_a_gate_there_is_no_figure_of_one(summary: Json) -> None:
    assert summary["gate"] is None


def test_spends_agree_on_test_with_factors_from_calibration(summary: Json) -> None:
    for block in (summary, summary["prompt_only"]):
        for name in ("constant", "label", "permuted", "permuted_within"):
            assert block[name]["spend_mean"] == pytest.approx(block["spend_mean"], rel=0.08)
            assert block[f"delta_{name}"]["ci95"][0] > 0


def test_caps_that_were_decoded_lie_on_the_exact_curve(summary: Json, found: Measurement) -> None:
    spends = [point.spend for point in found.curve]
    accuracies = [point.accuracy for point in found.curve]
    for name in ("cap.5", "cap.20", "uncapped"):
        arm = summary["arms"][name]
        assert arm["accuracy"] == pytest.approx(
            np.interp(arm["spend_mean"], spends, accuracies), abs=0.02
        )


def test_need_and_its_absence_reach_every_row(found: Measurement) -> None:
    needs = {row.key: row.need for row in found.rows if row.arm == "uncapped"}
    assert None in needs.values()
    assert all(row.need == needs[row.key] for row in found.rows)


def test_the_oracle_is_above_the_arm_that_it_is_matched_to(found: Measurement) -> None:
    for name, point in found.oracle.items():
        rows = [row for row in found.rows if row.arm == name]
        assert point.spend <= np.mean([row.spend for row in rows]) + 0.5
        assert point.accuracy >= np.mean([row.correct for row in rows])


def test_what_was_fixed_stands_in_the_summary(summary: Json, fixed: Fixed) -> None:
    told = summary["fixed_on_calibration"]
    assert told["learned"]["constant"]["factor"] == fixed.matchings["learned"].constant.factor
    assert told["cheapest_constant"]["tokens"] > 0


def trace(right: tuple[float, ...]) -> CheapTrace:
    return CheapTrace("q", "gcd", 0, tuple(range(len(right))), right, 1.0, 1.0, None)


def test_the_oracle_spends_its_tokens_where_they_buy_most() -> None:
    curve = CheapCurve([trace((0.0, 1.0)), trace((0.0, 0.0, 1.0)), trace((0.0,) * 9 + (1.0,))])
    # 1 + 1 for the first alone, 4 for the first two, 13 / 3 for all: 2 a reply is the first two.
    point = oracle_at(curve, [row(used=1, answer_tokens=1)])
    assert point.accuracy == pytest.approx(2 / 3)
    assert point.spend == pytest.approx(2.0)


def test_the_curve_goes_from_no_thinking_to_all() -> None:
    curve = CheapCurve([trace((0.0, 0.5, 1.0)), trace((0.0, 0.0, 0.0, 0.0, 1.0))])
    points = constant_curve(curve, points=5)
    assert (points[0].accuracy, points[0].spend) == (0.0, 1.0)
    assert points[-1] == curve.uncapped
