from collections.abc import Callable

import numpy as np
import pytest

from metacog.eval.arms import ConstantCap, FamilyCaps, PromptCaps
from metacog.eval.cheap import CheapCurve, CheapTrace
from metacog.eval.matching import (
    baseline_arms,
    cheapest_constant_arm,
    label_shapes,
    match_arms,
    match_spend,
    with_wrong_lengths,
)
from metacog.eval.rows import EvalRow
from tests.unit.eval.hand import row


def step(need: int, natural: int, *, name: str, family: str = "gcd") -> CheapTrace:
    """Return a trace that is right from `need` tokens on; with a need beyond its end, never."""
    right = tuple(float(cut >= need) for cut in range(natural + 1))
    known = need if need <= natural else None
    return CheapTrace(name, family, 0, tuple(range(natural + 1)), right, 1.0, 1.0, known)


@pytest.mark.parametrize(
    ("curve", "target", "expected"),
    [
        (lambda x: 3 * x, 12.0, 4.0),
        (lambda x: 3 * x, 1.0, 1 / 3),
        (lambda x: min(x, 5.0) ** 2, 16.0, 4.0),
        (lambda x: 100 * x, 9000.0, 90.0),
    ],
)
def test_spend_is_matched(curve: Callable[[float], float], target: float, expected: float) -> None:
    assert match_spend(curve, target) == pytest.approx(expected, rel=1e-3)


def test_a_target_out_of_reach_gives_the_end() -> None:
    assert min(match_spend(lambda x: min(x, 5.0), 6.0), 5.0) == 5.0
    assert match_spend(lambda x: 2 + x, 1.0) == pytest.approx(0, abs=1e-3)


def many(family: str, need: int, spread: int, count: int = 40) -> list[CheapTrace]:
    """Return traces of a family: natural twice the need, needs spread around their middle."""
    needs = np.linspace(need - spread, need + spread, count).astype(int).tolist()
    return [step(n, 2 * n, name=f"{family}{i}", family=family) for i, n in enumerate(needs)]


TRACES = many("gcd", 10, 4) + many("ab", 40, 10)


def learned(cap_of: Callable[[CheapTrace], int]) -> list[EvalRow]:
    rows = []
    for trace in TRACES:
        used = min(cap_of(trace), trace.natural)
        rows.append(
            row(
                question_id=trace.question_id,
                family=trace.family,
                used=used,
                answer_tokens=1,
                correct=bool(trace.right[used]),
            )
        )
    return rows


KNOWS = learned(lambda trace: trace.need or 0)


def test_every_baseline_spends_what_the_learned_arm_spends() -> None:
    found = match_arms(KNOWS, TRACES)
    target = np.mean([found_row.spend for found_row in KNOWS])
    assert found.target == pytest.approx(target)
    for match in (found.constant, found.label, found.permuted, found.permuted_within):
        assert match.spend == pytest.approx(target, rel=2e-3)


def test_no_baseline_is_as_right_as_knowing_each_need() -> None:
    found = match_arms(KNOWS, TRACES)
    assert found.constant.accuracy < found.label.accuracy
    for match in (found.constant, found.label, found.permuted, found.permuted_within):
        assert match.accuracy < 0.75
    assert all(found_row.correct for found_row in KNOWS)


def test_the_constant_is_the_cap_that_the_curve_has_there() -> None:
    found = match_arms(KNOWS, TRACES)
    curve = CheapCurve(TRACES)
    point = curve.point(curve.constant(found.constant.factor))
    assert point.spend == pytest.approx(found.target, rel=1e-3)
    assert found.constant.accuracy == pytest.approx(point.accuracy)


def test_the_rows_may_come_in_any_order() -> None:
    assert match_arms(list(reversed(KNOWS)), TRACES) == match_arms(KNOWS, TRACES)


def test_label_caps_keep_the_proportions_of_their_kind() -> None:
    found = match_arms(KNOWS, TRACES)
    shapes = label_shapes(TRACES)
    shape = shapes[found.label_kind]
    assert found.label_caps["ab"] / found.label_caps["gcd"] == pytest.approx(
        shape["ab"] / shape["gcd"]
    )


def test_the_better_kind_of_label_budgets_is_taken() -> None:
    # Caps of 10 and 20 are right everywhere; in proportion to length they would be 18 and 12.
    traces = [step(10, 40, name=f"a{i}") for i in range(4)]
    traces += [step(20, 25, name=f"b{i}", family="ab") for i in range(4)]
    rows = [
        row(question_id=t.question_id, family=t.family, used=t.need, answer_tokens=1)
        for t in traces
    ]
    found = match_arms(rows, traces)
    assert found.label_kind == "need"
    assert found.label.accuracy == pytest.approx(1.0, abs=0.02)
    assert found.label_caps == pytest.approx({"gcd": 10.0, "ab": 20.0}, abs=0.05)


def test_shapes_by_hand() -> None:
    traces = [
        step(2, 6, name="a"),
        step(4, 4, name="b"),
        step(99, 8, name="c"),
        step(5, 7, name="d", family="ab"),
    ]
    assert label_shapes(traces) == {
        "need": {"gcd": 3.0, "ab": 5.0},
        "natural": {"gcd": 6.0, "ab": 7.0},
    }


def test_a_family_that_is_never_right_leaves_only_lengths() -> None:
    traces = [step(2, 6, name="a"), step(99, 8, name="b", family="ab")]
    assert label_shapes(traces) == {"natural": {"gcd": 6.0, "ab": 8.0}}


def test_wrong_answers_are_as_long_as_those_of_their_family() -> None:
    traces = [step(2, 6, name="a"), step(5, 7, name="b", family="ab")]
    rows = [
        row(correct=False, answer_tokens=9),
        row(correct=False, answer_tokens=4),
        row(correct=True, answer_tokens=100),
        row(family="ab", correct=True, answer_tokens=100),
    ]
    found = with_wrong_lengths(traces, rows)
    assert [(trace.answer_right, trace.answer_wrong) for trace in found] == [(1, 6.5), (1, 1)]


def test_the_factors_go_to_new_questions_as_they_are() -> None:
    matching = match_arms(KNOWS, TRACES)
    test_rows = [row(question_id=f"t{i}", used=10 * i, family="gcd") for i in range(1, 9)]
    arms = {arm.name: arm.caps for arm in baseline_arms(matching, test_rows)}
    assert list(arms) == [
        "learned.constant",
        "learned.label",
        "learned.permuted",
        "learned.permuted_within",
    ]
    assert arms["learned.constant"] == ConstantCap(matching.constant.factor)
    assert arms["learned.label"] == FamilyCaps(matching.label_caps)
    shuffled = arms["learned.permuted"]
    assert isinstance(shuffled, PromptCaps)
    assert sorted(shuffled.tokens.values()) == pytest.approx(
        [10 * i * matching.permuted.factor for i in range(1, 9)]
    )


def test_the_cheapest_constant_meets_the_margin() -> None:
    curve = CheapCurve(TRACES)
    arm = cheapest_constant_arm(TRACES, margin=0.005)
    assert arm is not None
    assert isinstance(arm.caps, ConstantCap)
    cap = arm.caps.tokens
    assert curve.accuracy(curve.constant(cap)) >= curve.uncapped.accuracy - 0.005
    assert curve.accuracy(curve.constant(cap - 1)) < curve.uncapped.accuracy - 0.005


def test_rows_and_traces_must_be_of_the_same_questions() -> None:
    with pytest.raises(ValueError, match="one row of the learned arm for every"):
        match_arms(KNOWS[1:], TRACES)
