import math

import pytest
import torch

from metacog.losses.style import entropy, style_loss

LOGITS = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
EXPERTS = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]], [[50.0, 0.0], [0.0, 0.0]]])
QUARTER = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))


def test_entropy_by_hand() -> None:
    assert entropy(LOGITS).tolist() == pytest.approx([math.log(2), QUARTER])
    assert entropy(torch.tensor([80.0, 0.0, 0.0])).item() == pytest.approx(0, abs=1e-6)


def test_the_loss_is_the_negative_entropy_of_global_and_mean_expert_plans() -> None:
    report = style_loss(LOGITS, {"plan_logits_pl": EXPERTS}, style_entropy=0.01)
    own = math.log(2) + QUARTER
    experts = (math.log(2) + QUARTER) / 2 + (0 + math.log(2)) / 2
    assert report.total.item() == pytest.approx(-(own + experts), rel=1e-5)
    assert report.count.item() == 2
    assert report.values() == pytest.approx(
        {"train/plan_entropy": own / 2, "train/plan_entropy_per_layer": experts / 2}, rel=1e-5
    )


def test_descending_flattens_the_plans() -> None:
    logits, experts = LOGITS.clone().requires_grad_(), EXPERTS.clone().requires_grad_()
    style_loss(logits, {"plan_logits_pl": experts}, style_entropy=0.01).total.backward()
    for grad in (logits.grad, experts.grad):
        assert grad is not None
    assert logits.grad[1, 1] > 0 > logits.grad[1, 0]
    assert experts.grad[0, 1, 1] > 0 > experts.grad[0, 1, 0]


def test_without_experts_a_positive_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"losses\.style_entropy is 0.01.*empty per_layer"):
        style_loss(LOGITS, {}, style_entropy=0.01)
    report = style_loss(LOGITS, {}, style_entropy=0.0)
    assert report.values() == {}
    assert report.mean().item() == 0
