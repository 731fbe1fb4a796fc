import math

import pytest
import torch

from metacog.losses.reread import gain_loss, needed_loss, ready_loss

KNOWN = torch.tensor([True, True, False])


def huber(said: float, measured: float, delta: float) -> float:
    e = abs(math.log(1 + said) - math.log(1 + measured))
    return e * e / 2 if e <= delta else delta * (e - delta / 2)


@pytest.mark.parametrize("delta", [1.0, 0.3])
def test_needed_is_a_huber_loss_of_log_tokens(delta) -> None:
    needed, target = torch.tensor([10.0, 3.0, 7.0]), torch.tensor([15.0, 60.0, torch.nan])
    report = needed_loss(needed, target, KNOWN, delta=delta)
    assert report.total.item() == pytest.approx(
        huber(10, 15, delta) + huber(3, 60, delta), rel=1e-5
    )
    assert report.values() == pytest.approx({"train/needed_mae": (5 + 57) / 2})
    experts = torch.tensor([[[2.0], [50.0]]]).expand(3, 2, 1)
    more = needed_loss(needed, target, KNOWN, delta=delta, experts=experts, per_layer_weight=0.1)
    extra = sum((huber(2, t, delta) + huber(50, t, delta)) / 2 for t in (15, 60))
    assert (more.total - report.total).item() == pytest.approx(0.1 * extra, rel=1e-4)


def test_needed_refuses_labels_below_zero() -> None:
    with pytest.raises(ValueError, match="past the need has a label of 0"):
        needed_loss(torch.ones(3), torch.tensor([1.0, -2.0, 0.0]), KNOWN)


@pytest.mark.parametrize(
    ("loss", "metric"),
    [(ready_loss, "train/ready_brier"), (gain_loss, "train/gain_brier")],
)
def test_ready_and_gain_take_soft_labels(loss, metric) -> None:
    raw, label = torch.tensor([[1.0], [-2.0], [0.0]]), torch.tensor([0.6, 0.0, 0.5])
    p, q = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(2))
    report = loss(raw, label, KNOWN)
    wanted = -(0.6 * math.log(p) + 0.4 * math.log(1 - p)) - math.log(1 - q)
    assert report.total.item() == pytest.approx(wanted, rel=1e-5)
    assert report.values() == pytest.approx({metric: ((p - 0.6) ** 2 + q**2) / 2}, rel=1e-5)
    experts = raw.unsqueeze(1).expand(3, 4, 1)
    doubled = loss(raw, label, KNOWN, experts=experts, per_layer_weight=1.0)
    assert doubled.total.item() == pytest.approx(2 * wanted, rel=1e-5)
