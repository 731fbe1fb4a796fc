from statistics import pvariance

import pytest
import torch

from metacog.losses.variance import variance_loss

ROWS = torch.ones(2, 1, requires_grad=True)
RAW = torch.tensor([[[1.0], [2.0], [6.0]], [[0.0], [0.5], [0.0]]])


def test_variance_over_layers_summed_over_rows() -> None:
    report = variance_loss({"budget_raw_pl": RAW}, ROWS, var_reg=1e-4)
    wanted = [pvariance([1, 2, 6]), pvariance([0, 0.5, 0])]
    assert report.total.item() == pytest.approx(sum(wanted), rel=1e-5)
    assert report.count.item() == 2
    assert report.values() == pytest.approx({"metacog/budget_raw_variance": sum(wanted) / 2})


def test_descending_draws_the_experts_together() -> None:
    raw = RAW.clone().requires_grad_()
    variance_loss({"budget_raw_pl": raw}, ROWS, var_reg=1e-4).total.backward()
    assert raw.grad is not None
    first = raw.grad[0].squeeze(-1).tolist()
    assert first == pytest.approx([2 / 3 * (value - 3) for value in (1, 2, 6)])


def test_without_experts_a_positive_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"metacog\.var_reg is 0.0001.*empty per_layer"):
        variance_loss({}, ROWS, var_reg=1e-4)


def test_without_experts_and_weight_there_is_nothing() -> None:
    report = variance_loss({}, ROWS, var_reg=0.0)
    report.mean().backward()
    assert report.mean().item() == 0
    assert report.values() == {}
    assert ROWS.grad is not None
    assert ROWS.grad.abs().sum() == 0
