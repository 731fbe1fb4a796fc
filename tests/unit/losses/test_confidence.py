import math

import pytest
import torch

from metacog.losses.confidence import confidence_figures, confidence_loss, reliability_figures

RAW = torch.tensor([[2.0], [-1.0], [0.5]])
CORRECT, KNOWN = torch.tensor([1.0, 0.25, torch.nan]), torch.tensor([True, True, False])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def surprise(logit: float, label: float) -> float:
    p = sigmoid(logit)
    return -(label * math.log(p) + (1 - label) * math.log(1 - p))


def test_hard_and_soft_labels_by_hand() -> None:
    report = confidence_loss(RAW, CORRECT, KNOWN)
    assert report.total.item() == pytest.approx(surprise(2, 1) + surprise(-1, 0.25), rel=1e-5)
    brier = ((sigmoid(2) - 1) ** 2 + (sigmoid(-1) - 0.25) ** 2) / 2
    told = {
        "metacog/confidence/mean": (sigmoid(2) + sigmoid(-1)) / 2,
        "metacog/confidence/brier": brier,
    }
    assert report.values() == pytest.approx(told, rel=1e-5)


def test_experts_learn_the_same_label_and_do_not_enter_the_brier_score() -> None:
    experts = torch.tensor([[[0.0], [3.0]]]).expand(3, 2, 1)
    report = confidence_loss(RAW, CORRECT, KNOWN, experts=experts, per_layer_weight=0.5)
    wanted = surprise(2, 1) + surprise(-1, 0.25)
    wanted += 0.5 * sum((surprise(0, y) + surprise(3, y)) / 2 for y in (1, 0.25))
    assert report.total.item() == pytest.approx(wanted, rel=1e-5)
    assert report.values() == confidence_loss(RAW, CORRECT, KNOWN).values()


@pytest.mark.parametrize("label", [-0.1, 1.5, torch.nan])
def test_a_label_that_is_no_probability_is_refused(label) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        confidence_loss(RAW, torch.tensor([1.0, label, 0.0]), KNOWN)


def test_a_missing_label_that_is_nan_leaves_gradients_finite() -> None:
    raw = RAW.clone().requires_grad_()
    confidence_loss(raw, CORRECT, KNOWN).total.backward()
    assert raw.grad is not None
    assert raw.grad.squeeze(-1).tolist() == pytest.approx([sigmoid(2) - 1, sigmoid(-1) - 0.25, 0])


def test_figures_of_many_rows_are_those_worked_out_by_hand() -> None:
    chances = torch.tensor([0.05, 0.15, 0.15, 0.95])
    right = torch.tensor([0.0, 1.0, 0.0, 1.0])
    found = confidence_figures(chances, right)
    # Bins: |.05 - 0|, |.15 + .15 - 1|, |.95 - 1|; pairs of a right and a wrong row: 3.5 of 4.
    assert found["metacog/confidence/ece"] == pytest.approx((0.05 + 0.7 + 0.05) / 4, abs=1e-6)
    assert found["metacog/confidence/auroc"] == pytest.approx(3.5 / 4)


def test_the_reliability_diagram_is_that_worked_out_by_hand() -> None:
    chances = torch.tensor([0.05, 0.15, 0.16, 1.0])
    found = reliability_figures(chances, torch.tensor([0.0, 1.0, 0.5, 1.0]))
    assert found == pytest.approx(
        {
            "reliability/share/0": 0.25,
            "reliability/said/0": 0.05,
            "reliability/right/0": 0,
            "reliability/share/1": 0.5,
            "reliability/said/1": 0.155,
            "reliability/right/1": 0.75,
            "reliability/share/9": 0.25,
            "reliability/said/9": 1.0,
            "reliability/right/9": 1.0,
        }
    )
    assert reliability_figures(torch.zeros(0), torch.zeros(0)) == {}


def test_a_share_counts_on_both_sides_and_one_class_has_no_auroc() -> None:
    mixed = confidence_figures(torch.tensor([0.9, 0.1]), torch.tensor([0.75, 0.25]))
    # Right .75 and .25, wrong .25 and .75: (.75 * .75 + .5 * (.75 * .25 + .25 * .75)) / 1.
    assert mixed["metacog/confidence/auroc"] == pytest.approx(0.75)
    alone = confidence_figures(torch.tensor([0.9, 0.1]), torch.ones(2))
    assert alone.keys() == {"metacog/confidence/ece"}
    assert confidence_figures(torch.zeros(0), torch.zeros(0)) == {}
