import numpy as np
import pytest

from metacog.eval.cheap import CheapCurve, CheapTrace


def trace(
    right: tuple[float, ...], *, cuts: tuple[int, ...] | None = None, answer: float = 2.0
) -> CheapTrace:
    return CheapTrace("q", "gcd", 0, cuts or tuple(range(len(right))), right, answer, answer, None)


SHORT = trace((0.0, 0.5, 1.0))
LONG = trace((0.2, 0.1, 0.1, 0.9, 0.6), answer=3.0)
CURVE = CheapCurve([SHORT, LONG])


def test_accuracy_and_spend_by_hand() -> None:
    caps = np.array([1.0, 3.0])
    assert CURVE.accuracy(caps) == pytest.approx((0.5 + 0.9) / 2)
    assert CURVE.spend(caps) == pytest.approx((1 + 2 + 3 + 3) / 2)


def test_a_cap_beyond_the_natural_length_is_the_natural_length() -> None:
    caps = np.array([900.0, 900.0])
    assert CURVE.point(caps) == CURVE.uncapped
    assert CURVE.uncapped.accuracy == pytest.approx(0.8)
    assert CURVE.uncapped.spend == pytest.approx((2 + 2 + 4 + 3) / 2)


def test_a_fraction_is_the_mean_of_its_neighbours() -> None:
    caps = np.array([0.25, 3.75])
    expected = (0.75 * 0.0 + 0.25 * 0.5) / 2 + (0.25 * 0.9 + 0.75 * 0.6) / 2
    assert CURVE.accuracy(caps) == pytest.approx(expected)
    assert CURVE.spend(caps) == pytest.approx((0.25 + 2 + 3.75 + 3) / 2)


def test_a_fraction_below_the_natural_length_meets_it() -> None:
    caps = np.array([1.5, 3.5])
    assert CURVE.accuracy(caps) == pytest.approx(((0.5 + 1.0) / 2 + (0.9 + 0.6) / 2) / 2)


def test_a_wrong_answer_may_have_another_length() -> None:
    both = CheapTrace("q", "gcd", 0, (0, 1, 2), (0.0, 0.25, 1.0), 3.0, 7.0, 2)
    curve = CheapCurve([both])
    spends = [curve.spend(np.array([cap])) for cap in (0.0, 1.0, 2.0, 9.0)]
    assert spends == pytest.approx([7.0, 1 + 0.25 * 3 + 0.75 * 7, 5.0, 5.0])


def test_between_known_cuts_the_lower_one_holds_and_tokens_are_spent() -> None:
    sparse = CheapCurve([trace((0.1, 0.4, 0.8), cuts=(0, 4, 6))])
    assert sparse.accuracy(np.array([3.0])) == pytest.approx(0.1)
    assert sparse.accuracy(np.array([5.0])) == pytest.approx(0.4)
    assert sparse.spend(np.array([5.0])) == 7.0
    assert sparse.accuracy(np.array([6.0])) == pytest.approx(0.8)


def test_the_oracle_takes_the_best_cut_and_the_shortest_of_equals() -> None:
    assert CURVE.oracle().tolist() == [2.0, 3.0]
    equal = CheapCurve([trace((0.0, 1.0, 1.0, 1.0)), trace((0.0, 0.0))])
    assert equal.oracle().tolist() == [1.0, 0.0]


def test_the_oracle_does_not_look_beyond_the_end() -> None:
    curve = CheapCurve([trace((0.5, 0.4)), trace((0.0, 0.0, 0.0, 1.0))])
    assert curve.oracle().tolist() == [0.0, 3.0]
    assert curve.oracle(price=-1.0).tolist() == [1.0, 3.0]


def test_a_price_makes_the_oracle_shorter() -> None:
    # Two tokens buy 1.0 at .5 each; three tokens buy 0.7 more at .2333 each.
    assert CURVE.oracle(price=0.3).tolist() == [2.0, 0.0]
    assert CURVE.oracle(price=0.2).tolist() == [2.0, 3.0]
    assert CURVE.oracle(price=0.6).tolist() == [0.0, 0.0]


def test_the_cheapest_constant_cap_is_the_first_that_is_accurate_enough() -> None:
    accuracies = [CURVE.accuracy(CURVE.constant(cap)) for cap in range(5)]
    assert accuracies == pytest.approx([0.1, 0.3, 0.55, 0.95, 0.8])
    assert CURVE.cheapest_constant(0.55) == 2
    assert CURVE.cheapest_constant(0.56) == 3
    assert CURVE.cheapest_constant(0.96) is None


@pytest.mark.parametrize("cuts", [(1, 2), (0, 2, 2), (0,), ()])
def test_a_trace_without_rising_cuts_from_zero_is_refused(cuts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rising cuts from 0"):
        CheapTrace("q", "gcd", 0, cuts, (0.5, 0.5), 1.0, 1.0, None)


def test_caps_must_fit_the_traces() -> None:
    with pytest.raises(ValueError, match="each of 2 traces"):
        CURVE.accuracy(np.array([1.0]))
    with pytest.raises(ValueError, match="0 or more"):
        CURVE.accuracy(np.array([1.0, -1.0]))
    with pytest.raises(ValueError, match="one trace or more"):
        CheapCurve([])
