from metacog.eval.cheap import CheapTrace
from metacog.eval.lengths import LengthPoint, lengths_by_level
from tests.unit.eval.hand import row


def trace(question: str, right: tuple[float, ...]) -> CheapTrace:
    cuts = tuple(range(len(right)))
    return CheapTrace(question, "gcd", 0, cuts, right, 2.0, 2.0, None)


TRACES = [
    trace("easy1", (0.0, 1.0, 1.0, 1.0)),  # enough after 1, ends after 3
    trace("easy2", (0.0, 0.0, 1.0)),
    trace("hard", (0.0, 0.0, 0.0, 0.0, 0.6, 0.2)),  # thinks past its best
]
LEVELS = {"easy1": 0, "easy2": 0, "hard": 5}


def test_what_length_is_worth_by_hand() -> None:
    learned = [
        row(question_id="easy1", level=0, used=1, correct=True),
        row(question_id="easy2", level=0, used=3, correct=False),
    ]
    easy, hard = lengths_by_level(TRACES, LEVELS, learned)
    assert (easy.level, easy.traces, hard.level, hard.traces) == (0, 2, 5, 1)
    # After 0, 1, 2, 3 tokens: none, the first, both, both.
    # The second ends after 2, so a cap of 3 is 2.5 tokens on the mean.
    assert [(p.tokens, p.accuracy) for p in easy.capped] == [(0, 0), (1, 0.5), (2, 1), (2.5, 1)]
    assert (easy.optimum, easy.optimum_cap) == (LengthPoint(2.0, 1.0), 2)
    assert easy.uncapped == LengthPoint(2.5, 1.0)
    assert easy.natural == (LengthPoint(2.0, 1.0), LengthPoint(3.0, 1.0))
    assert easy.learned == LengthPoint(2.0, 0.5)
    assert hard.optimum == LengthPoint(4.0, 0.6)
    assert hard.uncapped == LengthPoint(5.0, 0.2)
    assert hard.learned is None


def test_the_optimum_is_the_shortest_within_half_a_point() -> None:
    flat = [trace("q", (0.0, 0.996, 0.9, 1.0))]
    assert lengths_by_level(flat, {"q": 0}, [])[0].optimum == LengthPoint(1.0, 0.996)
    steep = [trace("q", (0.0, 0.994, 0.9, 1.0))]
    assert lengths_by_level(steep, {"q": 0}, [])[0].optimum == LengthPoint(3.0, 1.0)
