"""The sampler moves with plan and confidence, within bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metacog.decode.modulation import Modulation, Sampler, modulate
from metacog.records import Segment


def moved(
    modulation: Modulation,
    confidence: float,
    plan: str | None = None,
    segment: Segment = Segment.THINK,
    top_p: float = 0.9,
) -> tuple[float, float]:
    plain = Sampler(0.8, top_p, 1.0)
    found = modulate(modulation, plain, confidence=confidence, plan=plan, segment=segment)
    assert found.penalty == 1.0
    return found.temperature, found.top_p


def test_it_is_off_by_default() -> None:
    assert moved(Modulation(), 0.1, "verify") == (0.8, 0.9)


def test_doubt_widens_and_confidence_narrows() -> None:
    modulation = Modulation(temperature_span=0.5, top_p_span=0.2)
    assert moved(modulation, 0.0) == pytest.approx((1.2, 1.0))
    assert moved(modulation, 0.5) == pytest.approx((0.8, 0.9))
    assert moved(modulation, 1.0) == pytest.approx((0.4, 0.7))


def test_a_plan_shifts_it() -> None:
    modulation = Modulation(temperature_span=0.5, plan_shift={"verify": -1.0})
    assert moved(modulation, 0.5, "verify")[0] == pytest.approx(0.4)
    assert moved(modulation, 0.5, "outline")[0] == pytest.approx(0.8)


def test_only_chosen_segments_move() -> None:
    modulation = Modulation(temperature_span=0.5)
    assert moved(modulation, 0.0, segment=Segment.ANSWER) == (0.8, 0.9)
    both = Modulation(0.5, segments=frozenset({Segment.THINK, Segment.ANSWER}))
    assert moved(both, 0.0, segment=Segment.ANSWER)[0] == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("plain", "confidence", "moved_to"),
    [(1.2, 0.0, 1.5), (1.2, 0.5, 1.2), (1.2, 0.9, 1.0), (1.0, 1.0, 1.0), (0.9, 1.0, 0.9)],
)
def test_doubt_repeats_itself_less_and_no_penalty_becomes_a_reward(
    plain: float, confidence: float, moved_to: float
) -> None:
    found = modulate(
        Modulation(penalty_span=0.25),
        Sampler(0.8, 0.9, plain),
        confidence=confidence,
        plan=None,
        segment=Segment.THINK,
    )
    assert found == pytest.approx((0.8, 0.9, moved_to))


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(-5, 5), st.floats(0.01, 1))
def test_bounds_hold(
    temperature_span: float, top_p_span: float, confidence: float, shift: float, top_p: float
) -> None:
    modulation = Modulation(temperature_span, top_p_span, {"verify": shift})
    temperature, share = moved(modulation, confidence, "verify", top_p=top_p)
    assert 0.8 * (1 - temperature_span) <= temperature * (1 + 1e-9) + 1e-12
    assert temperature <= 0.8 * (1 + temperature_span) * (1 + 1e-9)
    assert 0 < share <= 1
    assert share <= top_p + top_p_span


def test_spans_beyond_one_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Modulation(temperature_span=1.5)
