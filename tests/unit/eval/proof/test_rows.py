"""Rows of the P table on replies whose figures can be worked out."""

import numpy as np
import pytest

from metacog.data.tasks.families import FAMILIES
from metacog.eval.contrasts import Resampling
from metacog.eval.proof.budgets import median_of, p7
from metacog.eval.proof.confidence import p8a, p9
from metacog.eval.proof.quarter import p4, quarter_caps
from metacog.eval.proof.row import Row, all_met, missing
from metacog.eval.proof.savings import Peer, p5, p6, p11
from metacog.eval.proof.specialisation import (
    PlanReplies,
    gain_of_best_expert,
    mean_within,
    p13,
    permutation_test,
    plan_causality,
    single_at,
    spread_between,
)
from metacog.eval.proof.table import NAMES, lines, p8, table
from metacog.eval.proof.view import LayerView
from metacog.eval.rows import EvalRow
from metacog.eval.summary import summarise
from tests.unit.eval.evidence import coin, replies
from tests.unit.eval.hand import row

ROW = Row(0.5, 10, (0,), "half", True)


def said_of(n: int, **columns) -> LayerView:
    plain = {
        "budget": np.ones(n),
        "covering": None,
        "confidence": np.full(n, 0.5),
        "ready": np.full(n, 0.5),
        "alpha": np.full((n, 2), 0.5),
        "expert_confidence": np.full((n, 2), 0.5),
    }
    return LayerView(**(plain | columns))


def test_a_claim_that_fails_outweighs_one_that_is_not_known() -> None:
    assert all_met(True, None, False) is False
    assert all_met(True, None) is None
    assert all_met(True, True) is True


def test_the_table_holds_every_row_in_order() -> None:
    rows = dict.fromkeys(reversed(NAMES), ROW) | {"P2": missing("a layer", "none was named")}
    found = table(rows)
    assert list(found) == list(NAMES)
    assert set(found["P1"]) >= {"value", "ci95", "bound", "n", "seeds", "gate", "met"}
    assert "P2   open     --" in lines(found)[1]
    with pytest.raises(ValueError, match="P13"):
        table({"P1": ROW})


def test_p8_fails_where_either_half_fails() -> None:
    failed, unknown = Row(0.1, 1, (), "", False), Row(None, 0, (), "", None)
    assert p8(ROW, ROW).met is True
    assert p8(unknown, failed).met is False
    assert p8(ROW, unknown).met is None


def test_budgets_that_rank_need_beat_operands_that_say_nothing() -> None:
    rng = np.random.default_rng(0)
    need = rng.integers(1, 60, 600).astype(float)
    found = replies([60] * 600, need=need)
    said = said_of(600, budget=10 * need + rng.normal(size=600))
    row_ = p7(found, found, said, said)
    assert row_.met is True
    assert row_.value > 0.99
    assert row_.detail["mae_below_best"] > 0.5
    blind = said_of(600, budget=rng.random(600))
    assert p7(found, found, blind, blind).met is False


def test_a_budget_is_brought_to_the_median_by_a_map_that_never_falls() -> None:
    budget = np.arange(500.0)
    need = np.where(budget < 250, 10.0, 40.0)
    median = median_of(budget, np.where(budget == 3, np.nan, need), np.array([5.0, 100.0, 400.0]))
    assert median.tolist() == pytest.approx([10, 10, 40], abs=0.5)


def test_confidence_has_to_beat_the_best_baseline() -> None:
    correct, before = coin(400), coin(400, 1)
    fit, new = (replies([9] * 400, correct=outcomes) for outcomes in (before, correct))
    knowing = said_of(400, confidence=np.where(correct, 0.8, 0.2))
    found = p8a(fit, new, knowing)
    assert (found.value, found.met) == (1.0, True)
    told = replies([9] * 400, correct=correct, prompt_tokens=np.where(correct, 9.0, 5.0))
    found = p8a(told, told, knowing)
    assert found.detail["best_baseline"] == "prompt_length"
    assert found.met is False


def test_coverage_counts_needs_and_calibration_its_n() -> None:
    found = replies([9] * 100, need=np.where(np.arange(100) < 50, np.nan, 10.0))
    covering = np.where(np.arange(100) < 55, 9.0, 10.0)
    honest = {"ece": 0.03, "brier_skill": 0.2, "n": 6000}

    def judged(confidence, covering=covering):
        return p9(confidence, found, said_of(100, covering=covering), confidence_seeds=(4,))

    assert judged(honest).detail["coverage"] == pytest.approx(0.9)
    assert (judged(honest).met, judged(honest).seeds) == (True, (4,))
    assert judged(honest | {"n": 4000}).met is False
    assert judged(honest | {"ece": 0.06}).met is False
    assert judged(honest, np.full(100, 10.0)).met is False
    assert judged(honest, None).met is None


def test_no_violation_is_bounded_by_the_rule_of_three() -> None:
    found = p5({"cap_violations": 0, "generations": 30_000, "n": 10, "seeds": [0]})
    assert (found.met, found.bound) == (True, 1e-4)
    assert p5({"cap_violations": 1, "generations": 30_000, "n": 10, "seeds": [0]}).met is False
    assert p5({"cap_violations": 0, "generations": 300, "n": 10, "seeds": [0]}).met is False


def test_the_worse_of_two_shares_of_escapes_counts() -> None:
    summary = {"escapes": {"any": 0.01, "after_forced_close": 0.05}, "n": 1, "seeds": [0]}
    assert (p6(summary).value, p6(summary).met) == (0.05, False)


def test_a_quarter_counts_families_that_a_bare_close_leaves_a_tenth() -> None:
    def arm(right: int, family: str, of: int = 20):
        return [
            row(question_id=f"{family}{i}", family=family, correct=i < right, used=40)
            for i in range(of)
        ]

    own, bare = arm(12, "gcd") + arm(20, "ab"), arm(4, "gcd") + arm(1, "ab")
    found = p4(own, bare, Resampling(resamples=100))
    assert found.value == pytest.approx(3.0)
    assert found.detail["families"] == ["gcd"]
    assert found.detail["points"] == pytest.approx(0.4)
    assert quarter_caps(bare) == {"gcd": 10.0, "ab": 10.0}


def test_labels_that_matter_are_told_from_labels_that_do_not() -> None:
    labels = np.array(["a", "b"] * 100)
    columns = np.random.default_rng(0).normal(size=(200, 2))
    matter = columns + np.where(labels == "a", 1.0, -1.0)[:, None]
    assert permutation_test(labels, lambda given: spread_between(matter, given))["p"] < 0.01
    assert permutation_test(labels, lambda given: spread_between(columns, given))["p"] > 0.05


def test_replies_to_one_question_are_one_row_of_a_permutation_test() -> None:
    columns = np.array([[1.0, 4.0], [3.0, 6.0], [5.0, 5.0]])
    assert mean_within(columns, np.array([1, 1, 0])).tolist() == [[5, 5], [2, 5]]
    rng, found = np.random.default_rng(1), []
    for _ in range(20):
        said = replies(
            [4] * 180,
            question=np.repeat(np.arange(60).astype(str), 3),
            family=np.repeat(rng.integers(0, len(FAMILIES), 60), 3),
        )
        experts = np.repeat(rng.uniform(size=(60, 4)), 3, axis=0)
        view = said_of(180, alpha=experts, expert_confidence=experts)
        found.append(p13(said, view, None))
    assert {row.n for row in found} == {60}
    assert sum(row.detail["alpha"]["p"] < 0.05 for row in found) <= 4
    assert sum(row.detail["expert"]["p"] < 0.05 for row in found) <= 4


def test_the_best_expert_of_each_group_gains_what_they_differ_by() -> None:
    losses = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert gain_of_best_expert(losses, np.array(["a", "a", "b", "b"])) == 0.5
    assert gain_of_best_expert(losses, np.array(["a", "b", "a", "b"])) == 0.0


def test_single_plans_are_mixed_to_spend_the_same() -> None:
    right, spend = np.array([0.4, 0.8]), np.array([10.0, 30.0])
    assert single_at(right, spend, 20.0) == pytest.approx(0.6)
    assert single_at(right, spend, 40.0) == 0.8
    assert single_at(right, spend, 5.0) == 0.4


def test_choosing_the_right_plan_by_family_beats_any_single_plan() -> None:
    family = np.array(["a", "b"] * 100)
    right = np.stack([family == "a", family == "b"], axis=1).astype(float)
    plans = PlanReplies(
        question=np.arange(200).astype(str),
        family=family,
        right=right,
        spend=np.full((200, 2), 10.0),
        chosen=right.argmax(axis=1),
        names=("direct", "verify"),
    )
    found = plan_causality(plans)
    assert found["interaction"]["p"] < 0.01
    assert found["above_best_single"]["mean"] == pytest.approx(0.5)
    assert found["above_best_single"]["ci95"][0] > 0.3
    assert found["matrix"]["a"]["direct"] == {"accuracy": 1.0, "spend": 10.0}


def test_p11_holds_the_gate_against_each_peer_by_hand() -> None:
    def replies(arm: str, used: int, right: int) -> list[EvalRow]:
        return [
            row(question_id=f"q{n}", arm=arm, used=used, answer_tokens=2, correct=n < right)
            for n in range(10)
        ]

    gated, off = replies("gated", 8, 5), replies("uncapped", 18, 5)
    summary = summarise([*gated, *off], resampling=Resampling(20))
    lora = Peer(replies("gated", 9, 5), {"parameters": 3})
    draws = Resampling(20)
    found = p11(summary, gated, {"off": Peer(off), "lora": lora}, draws)
    assert (found.value, found.met) == (
        0.5,
        False,
    )  # half of 20 against nothing, a tenth less of 11
    against = found.detail["against"]
    assert against["off"]["saving"]["mean"] == 0.5
    assert against["lora"]["saving"]["mean"] == pytest.approx(1 / 11)
    assert against["lora"]["accuracy"]["mean"] == 0.0
    assert against["lora"]["peer"] == {"accuracy": 0.5, "spend": 11.0, "parameters": 3}
    assert found.detail["not_measured"] == ["random_gate", "ia3"]
    longer = Peer(replies("gated", 10, 5))
    assert p11(summary, gated, {"off": Peer(off), "lora": longer}, draws).met is None
    all_four = {"off": Peer(off), "random_gate": Peer(off), "ia3": Peer(off), "lora": longer}
    assert p11(summary, gated, all_four, draws).met is True
    worse = Peer(replies("gated", 8, 4))
    assert p11(summary, gated, all_four | {"lora": worse}, draws).met is True
