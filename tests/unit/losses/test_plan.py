import math

import pytest
import torch

from metacog.losses.plan import plan_loss

LOGITS = torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0], [2.0, 1.0, 0.5]])
EXPERTS = torch.tensor([[[0.0, 3.0, 0.0], [1.0, 1.0, 1.0]]]).expand(3, 2, 3)
PLAN, KNOWN = torch.tensor([1, -100, 0]), torch.tensor([True, False, True])


def surprise(logits: list[float], label: int) -> float:
    return -math.log(math.exp(logits[label]) / sum(map(math.exp, logits)))


def test_cross_entropy_by_hand() -> None:
    report = plan_loss(LOGITS, PLAN, KNOWN)
    wanted = surprise([1, 0, -1], 1) + surprise([2, 1, 0.5], 0)
    assert report.total.item() == pytest.approx(wanted, rel=1e-5)
    assert report.count.item() == 2
    assert report.values() == {"train/plan_accuracy": 0.5}


def test_experts_learn_the_same_label() -> None:
    report = plan_loss(LOGITS, PLAN, KNOWN, experts=EXPERTS, per_layer_weight=0.5)
    own = surprise([1, 0, -1], 1) + surprise([2, 1, 0.5], 0)
    experts = [(surprise([0, 3, 0], label) + surprise([1, 1, 1], label)) / 2 for label in (1, 0)]
    assert report.total.item() == pytest.approx(own + 0.5 * sum(experts), rel=1e-5)


def test_rows_without_a_label_get_no_gradient() -> None:
    logits, experts = LOGITS.clone().requires_grad_(), EXPERTS.clone().requires_grad_()
    plan_loss(logits, PLAN, KNOWN, experts=experts, per_layer_weight=0.5).total.backward()
    for grad in (logits.grad, experts.grad):
        assert grad is not None
        assert grad[1].abs().sum() == 0
        assert grad[0].abs().sum() > 0
