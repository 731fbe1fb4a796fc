import math

import pytest
import torch

from metacog.model.trunk import PerLayerTrunk, Phase


def by_hand(trunk: PerLayerTrunk, state: list[float], layer: int, phase: Phase) -> list[float]:
    """z of one block in plain Python, straight from the equation."""
    rms = math.sqrt(sum(h * h for h in state) / len(state))
    inner, outer = trunk.inner.weight.tolist(), trunk.outer.weight.tolist()
    place = zip(
        trunk.layer_embedding[layer].tolist(),
        trunk.phase_embedding[int(phase)].tolist(),
        strict=True,
    )
    a = [
        sum(w * h / rms for w, h in zip(row, state, strict=True)) + e + p
        for row, (e, p) in zip(inner, place, strict=True)
    ]
    active = [v / (1 + math.exp(-v)) for v in a]
    return [sum(w * v for w, v in zip(row, active, strict=True)) for row in outer]


@pytest.mark.parametrize("phase", list(Phase))
def test_the_batched_projection_is_the_equation_block_by_block(phase) -> None:
    torch.manual_seed(0)
    trunk, states = PerLayerTrunk(7, 4, 3), 5 * torch.randn(2, 3, 7)
    z = trunk(states, phase)
    for row in range(2):
        for layer in range(3):
            wanted = by_hand(trunk, states[row, layer].tolist(), layer, phase)
            assert z[row, layer].tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_size_of_a_state_does_not_matter_but_its_direction_does() -> None:
    torch.manual_seed(0)
    trunk, states = PerLayerTrunk(7, 4, 3), torch.randn(2, 3, 7)
    torch.testing.assert_close(trunk(1e4 * states), trunk(states))
    torch.testing.assert_close(trunk(1e-3 * states), trunk(states))
    assert (trunk(-states) - trunk(states)).abs().max() > 0.1


def test_a_state_of_zeros_is_finite() -> None:
    assert torch.isfinite(PerLayerTrunk(7, 4, 3)(torch.zeros(1, 3, 7))).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_it_computes_in_fp32_whatever_comes(dtype) -> None:
    torch.manual_seed(0)
    trunk, states = PerLayerTrunk(7, 4, 3), torch.randn(2, 3, 7).to(dtype)
    z = trunk(states)
    assert z.dtype == torch.float32
    assert torch.equal(z, trunk(states.float()))


def test_states_get_no_gradient_and_every_weight_does() -> None:
    torch.manual_seed(0)
    trunk, states = PerLayerTrunk(7, 4, 3), torch.randn(2, 3, 7, requires_grad=True)
    trunk(states).square().sum().backward()
    assert states.grad is None
    for parameter in trunk.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_it_starts_with_projections_of_about_one() -> None:
    torch.manual_seed(0)
    z = PerLayerTrunk(256, 64, 6)(torch.randn(32, 6, 256))
    assert 0.5 < z.square().mean().sqrt() < 2
