import json

import pytest

from metacog.eval.contrasts import Resampling
from metacog.eval.rows import EvalRow
from metacog.eval.runner import ReadyPoint
from metacog.eval.summary import summarise
from metacog.records import CloseReason
from tests.unit.eval.hand import row

DRAWS = Resampling(resamples=200)


def arm_rows(arm: str, used: list[int], correct: list[bool], **changes: object) -> list[EvalRow]:
    """Return rows of four prompts with two seeds: prompt 0 seed 0, prompt 0 seed 1, and so on."""
    return [
        row(
            arm=arm,
            question_id=f"q{index // 2}",
            seed=index % 2,
            used=tokens,
            correct=right,
            **changes,
        )
        for index, (tokens, right) in enumerate(zip(used, correct, strict=True))
    ]


YES, NO = True, False
UNCAPPED = arm_rows(
    "uncapped", [18, 18, 38, 38, 8, 8, 98, 98], [YES, YES, YES, NO, YES, YES, NO, NO], enforced=None
)
LEARNED = arm_rows("learned", [8, 8, 18, 18, 8, 8, 48, 48], [YES, YES, YES, NO, YES, NO, NO, NO])
CONSTANT = arm_rows("learned.constant", [23, 23, 23, 23, 8, 8, 28, 28], [YES, NO] + [NO] * 6)
ALL = UNCAPPED + LEARNED + CONSTANT
FOUND = summarise(ALL, resampling=DRAWS)


def test_the_head_counts() -> None:
    assert FOUND["n"] == 4
    assert FOUND["seeds"] == [0, 1]
    assert FOUND["generations"] == 24
    assert FOUND["accuracy"] == 0.5
    assert FOUND["think_tokens_mean"] == pytest.approx(164 / 8)
    assert FOUND["spend_mean"] == pytest.approx(164 / 8 + 2)
    assert FOUND["uncapped"]["accuracy"] == pytest.approx(5 / 8)
    assert FOUND["uncapped"]["spend_mean"] == pytest.approx(324 / 8 + 2)


def test_a_baseline_and_its_difference() -> None:
    assert FOUND["constant"]["accuracy_at_equal_spend"] == pytest.approx(1 / 8)
    assert FOUND["constant"]["spend_mean"] == pytest.approx(164 / 8 + 2)
    assert FOUND["delta_constant"]["mean"] == pytest.approx(3 / 8)
    assert FOUND["delta_constant"]["spend_ratio"] == pytest.approx(1.0)
    # Differences by prompt: .5, .5, .5, 0: the draws lie between 0 and .5.
    low, high = FOUND["delta_constant"]["ci95"]
    assert 0 <= low < 3 / 8 < high <= 0.5


def test_an_arm_without_rows_is_null() -> None:
    for name in ("label", "permuted", "permuted_within"):
        assert FOUND[name]["accuracy_at_equal_spend"] is None
        assert FOUND[f"delta_{name}"]["ci95"] is None
    only = FOUND["prompt_only"]
    assert only["accuracy"] is None
    assert only["cap_violations"] is None
    assert only["close_reasons"] is None
    assert only["confidence"]["auroc"] is None
    assert only["budget"]["spearman"] is None
    assert only["noninferiority"]["holds"] is None
    assert only["saving"]["mean"] is None


def test_both_ways_of_reading_hold_the_same_figures() -> None:
    both = summarise(ALL + arm_rows("prompt_only", [9] * 8, [YES] * 8), resampling=DRAWS)
    assert set(both["prompt_only"]) <= set(both)
    assert both["prompt_only"]["accuracy"] == 1.0
    assert both["prompt_only"]["uncapped"] == both["uncapped"]
    assert both["uncapped"]["accuracy"] == pytest.approx(5 / 8)
    assert both["prompt_only"]["delta_constant"]["ci95"] is None


def test_the_saving_and_what_it_is_made_of() -> None:
    saving = FOUND["saving"]
    total = 324 + 16
    assert saving["mean"] == pytest.approx(160 / total)
    assert saving["ci95"][0] < saving["mean"] < saving["ci95"][1]
    assert saving["split"]["overthinking"] == pytest.approx(40 / total)
    assert saving["split"]["futility"] == pytest.approx(120 / total)
    assert saving["split"]["loops"] == 0
    # Right uncapped: both of prompts 0 and 2, one of prompt 1; 20 + 20 + 40 + 10 + 10 spent.
    assert saving["right_uncapped"]["mean"] == pytest.approx(40 / 100)
    assert saving["right_uncapped"]["pairs"] == 5


def test_the_bound_of_non_inferiority() -> None:
    found = FOUND["noninferiority"]
    assert found["difference"] == pytest.approx(-1 / 8)
    assert found["lower95"] < -1 / 8
    assert found["holds"] is False
    same = summarise(
        [*UNCAPPED, *arm_rows("learned", [9] * 8, [r.correct for r in UNCAPPED])], resampling=DRAWS
    )
    assert same["noninferiority"]["lower95"] == 0
    assert same["noninferiority"]["holds"] is True


def test_hitting_the_limit_is_a_loop_and_censored() -> None:
    stuck = [
        *arm_rows("uncapped", [98] * 2, [NO] * 2, close_reason=CloseReason.MAX_TOKENS, need=None),
        *arm_rows("learned", [48] * 2, [NO] * 2, need=None),
    ]
    found = summarise(stuck, resampling=DRAWS)
    assert found["saving"]["split"] == {"overthinking": 0, "futility": 0, "loops": 0.5}
    assert found["uncapped"]["outcomes"] == {"answered": 0, "hopeless": 0, "censored": 2}
    assert found["uncapped"]["close_reasons"] == {"max_tokens": 1.0}
    assert found["budget"]["spearman"] is None
    assert found["budget"]["natural_over_need"] is None


def test_budget_against_need() -> None:
    rows = [
        row(question_id=f"q{i}", predicted=p, enforced=p, need=n)
        for i, (p, n) in enumerate([(10, 8), (20, 30), (30, 20), (40, 39), (50, None)])
    ]
    found = summarise(rows, resampling=DRAWS)["budget"]
    assert found["n"] == 4
    assert found["spearman"] == pytest.approx(0.8)
    assert found["mae"] == pytest.approx((2 + 10 + 10 + 1) / 4)
    assert found["coverage"] == 0.75
    assert found["need_mean"] == pytest.approx(97 / 4)
    assert found["spearman_within"] is None
    low, high = found["spearman_ci95"]
    assert -1 <= low <= 0.8 <= high <= 1


def test_within_family_needs_rows_enough() -> None:
    rows = [
        row(question_id=f"{family}{i}", family=family, predicted=10 + sign * i, need=5 + i)
        for family, sign in (("gcd", 1), ("ab", -1), ("aiw", 1))
        for i in range(10)
    ]
    found = summarise(rows, resampling=DRAWS)["budget"]
    assert found["spearman_by_family"] == pytest.approx({"gcd": 1.0, "ab": -1.0, "aiw": 1.0})
    assert found["spearman_within"] == pytest.approx(1.0)


def test_confidence_closer_and_ready() -> None:
    values = [(0.9, 0.4, YES), (0.8, 0.6, NO), (0.7, None, YES), (0.1, 0.2, NO)]
    rows = [
        row(question_id=f"q{i}", confidence=c, ready_at_close=r, correct=right)
        for i, (c, r, right) in enumerate(values)
    ]
    points = [ReadyPoint(0.9, 1.0), ReadyPoint(0.2, 0.0), ReadyPoint(0.1, 1.0)]
    found = summarise(rows, ready=points, resampling=DRAWS)
    assert found["confidence"]["auroc"] == pytest.approx(3 / 4)
    assert found["confidence"]["brier"] == pytest.approx((0.01 + 0.64 + 0.09 + 0.01) / 4)
    assert found["closer"]["auroc"] == pytest.approx(1 / 2)
    assert found["closer"]["auroc_uncapped"] is None
    assert found["ready"]["auroc"] == pytest.approx(1 / 2)
    assert found["ready"]["n"] == 3


def test_escapes_and_violations_are_counted() -> None:
    forced = CloseReason.BUDGET
    rows = [
        row(question_id="a", close_reason=forced, answer_has_tag=True),
        row(question_id="b", close_reason=forced, cap_violation=True),
        row(
            question_id="c",
            close_reason=forced,
            answer_empty=True,
            no_answer_after_forced_close=True,
        ),
        row(question_id="d"),
    ]
    found = summarise(rows, resampling=DRAWS)
    assert found["cap_violations"] == 1
    assert found["escapes"]["any"] == 0.5
    assert found["escapes"]["after_forced_close"] == pytest.approx(2 / 3)
    assert found["escapes"]["no_answer_after_forced_close"] == pytest.approx(1 / 3)
    assert found["close_reasons"] == {"budget": 0.75, "natural": 0.25}


def test_families_stand_apart() -> None:
    rows = [
        row(question_id="a", arm="uncapped", used=18, need=6),
        row(question_id="a", used=8),
        row(question_id="b", family="ab", arm="uncapped", used=28, need=None, correct=NO),
    ]
    found = summarise(rows, resampling=DRAWS)["by_family"]
    assert found["gcd"]["natural_over_need"] == 3.0
    assert found["gcd"]["uncapped_spend_mean"] == 20
    assert found["ab"]["need_mean"] is None
    assert found["ab"]["accuracy"] is None


def test_the_cheapest_constant_stands_beside_the_saving() -> None:
    cheapest = arm_rows("cheapest_constant", [14] * 8, [YES] * 8, enforced=14)
    found = summarise([*LEARNED, *cheapest], resampling=DRAWS)["saving"]["cheapest_constant"]
    assert found["mean"] == pytest.approx(1 - (164 / 8 + 2) / 16)
    assert found["cap_mean"] == 14
    assert found["delta_accuracy"]["mean"] == pytest.approx(-0.5)


BASELINES = ("constant", "label", "permuted", "permuted_within")
WANTED = [
    "n",
    "accuracy",
    "think_tokens_mean",
    "spend_mean",
    "uncapped.accuracy",
    "uncapped.spend_mean",
    *(f"{name}.accuracy_at_equal_spend" for name in BASELINES),
    *(f"{name}.spend_mean" for name in BASELINES),
    *(f"delta_{name}.ci95" for name in BASELINES),
    "budget.spearman",
    "budget.spearman_within",
    "confidence.auroc",
    "ready.auroc",
    "closer.auroc",
    "cap_violations",
    *(f"prompt_only.{name}.accuracy_at_equal_spend" for name in BASELINES),
    *(f"prompt_only.delta_{name}.ci95" for name in BASELINES),
    "prompt_only.accuracy",
    "prompt_only.saving.mean",
    "prompt_only.uncapped.accuracy",
    "prompt_only.uncapped.spend_mean",
]


def test_it_is_json_with_every_figure_that_is_asked_for() -> None:
    found = json.loads(json.dumps(FOUND, allow_nan=False))
    for path in WANTED:
        value = found
        for name in path.split("."):
            assert name in value, path
            value = value[name]


def test_no_rows_give_nulls() -> None:
    found = summarise([], resampling=DRAWS)
    assert found["n"] == 0
    assert found["accuracy"] is None
    assert found["by_family"] == {}
