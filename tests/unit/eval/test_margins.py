from dataclasses import replace

import pytest

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.eval.arms import Arm, ConstantCap
from metacog.eval.margins import margin_summaries
from metacog.eval.runner import Runner
from tests.unit.eval.hand import Script, setup_of

QUESTIONS = draw_questions(Split.TEST, 20, families=("gcd", "ab"))
BASE = Script(natural=40, need=10, predicted=20, stops_at=12)
CHEAPEST = Arm("cheapest_constant", ConstantCap(30.0))


def runner(script: Script) -> Runner:
    return Runner(setup_of(QUESTIONS, [script] * len(QUESTIONS)), QUESTIONS, [3])


def test_savings_are_against_the_bare_base_and_its_cheapest_cap() -> None:
    trained = replace(BASE, natural=24, stops_at=11)
    found = margin_summaries(
        runner(BASE),
        {"frozen": (runner(BASE), False), "trained": (runner(trained), True)},
        CHEAPEST,
        natural_over_need=4.0,
    )
    answer = found["frozen"]["answer_tokens_mean"]
    for name, used in {"frozen": 12, "trained": 11}.items():
        saving = found[name]["saving"]
        assert saving["mean"] == pytest.approx(1 - (used + answer) / (40 + answer))
        cheapest = saving["cheapest_constant"]
        assert cheapest["mean"] == pytest.approx(1 - (used + answer) / (30 + answer))
        assert found[name]["noninferiority"]["difference"] == 0.0
        assert (found[name]["n"], found[name]["seeds"]) == (20, [3])
        assert found[name]["budget"]["natural_over_need"] == 4.0
    assert found["frozen"]["gate"] is None
    assert found["trained"]["gate"]["saving"]["mean"] == pytest.approx(
        1 - (24 + answer) / (40 + answer)
    )


def test_lost_answers_fail_the_half_point() -> None:
    worse = replace(BASE, stops_at=9)  # before the answer is right
    found = margin_summaries(runner(BASE), {"frozen": (runner(worse), False)}, None)["frozen"]
    assert found["noninferiority"]["difference"] == -1.0
    assert found["noninferiority"]["holds"] is False
    assert found["saving"]["cheapest_constant"]["mean"] is None
