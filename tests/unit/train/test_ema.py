import pytest
import torch
from torch import nn

from metacog.train.ema import Ema


def set_to(parameter: nn.Parameter, value: float) -> None:
    with torch.no_grad():
        parameter.fill_(value)


def after(decay: float, *values: float) -> tuple[nn.Parameter, Ema]:
    parameter = nn.Parameter(torch.zeros(2))
    ema = Ema([parameter], decay)
    for value in values:
        set_to(parameter, value)
        ema.update()
    return parameter, ema


def test_the_mean_follows_its_equation_by_hand() -> None:
    parameter, ema = after(0.5, 1.0, 4.0, 2.0)
    kept, mean = (1 / 10, 2 / 11, 3 / 12), 0.0
    for share, value in zip(kept, (1.0, 4.0, 2.0), strict=True):
        mean = share * mean + (1 - share) * value
    with ema.in_place():
        assert parameter.tolist() == pytest.approx([mean, mean])
    assert parameter.tolist() == [2.0, 2.0]


def test_the_decay_is_the_most_that_is_kept() -> None:
    parameter, ema = after(0.05, 1.0)
    with ema.in_place():
        assert parameter.tolist() == pytest.approx([0.95, 0.95])


def test_the_latest_weights_come_back_after_an_error_bit_for_bit() -> None:
    parameter, ema = after(0.9, 0.1, 0.3)
    latest = parameter.detach().clone()

    def fail() -> None:
        with ema.in_place():
            assert not torch.equal(parameter, latest)
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert torch.equal(parameter, latest)


def test_a_mean_of_low_precision_weights_is_kept_in_full_precision() -> None:
    parameter = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    ema = Ema([parameter], 0.9)
    for _ in range(3):
        ema.update()
    assert ema.state().tensors["ema/0"].dtype == torch.float32
    with ema.in_place():
        assert parameter.dtype == torch.bfloat16


def test_it_goes_on_from_its_state_as_if_it_had_never_stopped() -> None:
    parameter, ema = after(0.9, 1.0, 2.0)
    other = nn.Parameter(torch.full((2,), 2.0))
    resumed = Ema([other], 0.9)
    resumed.load_state(ema.state())
    for mean, weight in ((ema, parameter), (resumed, other)):
        set_to(weight, 5.0)
        mean.update()
    assert torch.equal(ema.state().tensors["ema/0"], resumed.state().tensors["ema/0"])
    assert resumed.updates == 3
