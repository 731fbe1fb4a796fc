import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metacog.model.scale import BudgetScale

SCALES = [BudgetScale(8, 512, "linear"), BudgetScale(1, 4096, "log"), BudgetScale(0, 300, "log")]


def by_hand(scale: BudgetScale, raw: float) -> float:
    f = 1 / (1 + math.exp(-raw))
    if scale.kind == "linear":
        return scale.min + (scale.max - scale.min) * f
    low, high = math.log(scale.min + 1), math.log(scale.max + 1)
    return math.exp(low + (high - low) * f) - 1


@pytest.mark.parametrize("scale", SCALES)
@given(raw=st.floats(-30, 30))
@settings(max_examples=30, deadline=None)
def test_tokens_follow_the_equation(scale, raw) -> None:
    tokens = float(scale.tokens(torch.tensor([raw])))
    assert tokens == pytest.approx(by_hand(scale, raw), rel=1e-4, abs=1e-4)
    assert scale.min <= tokens <= scale.max


@pytest.mark.parametrize("scale", SCALES)
@given(share=st.floats(0.01, 0.99))
@settings(max_examples=30, deadline=None)
def test_raw_is_the_way_back(scale, share) -> None:
    tokens = torch.tensor([scale.min + share * (scale.max - scale.min)])
    torch.testing.assert_close(scale.tokens(scale.raw(tokens)), tokens, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(torch.sigmoid(scale.raw(tokens)), scale.fraction(tokens))


@pytest.mark.parametrize("scale", SCALES)
def test_targets_outside_the_range_count_as_its_ends(scale) -> None:
    outside = torch.tensor([0.0, 1e9])
    assert scale.fraction(outside).tolist() == [0.0, 1.0]
    assert torch.isfinite(scale.raw(outside)).all()


def test_nothing_is_rounded() -> None:
    scale = BudgetScale(8, 512)
    raw = torch.linspace(-2, 2, 50)
    assert (scale.tokens(raw) != scale.tokens(raw).round()).float().mean() > 0.9


@pytest.mark.parametrize(("low", "high"), [(8, 8), (9, 8), (-1, 8)])
def test_a_range_that_is_none_is_refused(low, high) -> None:
    with pytest.raises(ValueError, match="wanted 0 <= min < max"):
        BudgetScale(low, high)
