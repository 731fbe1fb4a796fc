import math

import pytest
import torch

from metacog.losses.budget import Spending, budget_mse, budget_need, budget_used

RAW = torch.tensor([[0.0], [0.0], [1.0], [-1.0]])
NEED = torch.tensor([0.8, 0.2, torch.nan, 0.9])
KNOWN = torch.tensor([True, True, False, True])
CENSORED = torch.tensor([False, True, False, True])
SPENDING = Spending(
    predicted=torch.tensor([100.0, 60.0, 10.0, 40.0]),
    used=torch.tensor([80.0, 60.0, torch.nan, 20.0]),
    known=KNOWN,
    max_tokens=200,
)
MSE = ((20 / 200) ** 2 + 0 + (20 / 200) ** 2) / 3


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_need_is_squared_and_one_sided_where_censored() -> None:
    report = budget_need(RAW, NEED, KNOWN, CENSORED, SPENDING)
    wanted = 0.3**2 + 0.0 + (0.9 - sigmoid(-1)) ** 2
    assert report.total.item() == pytest.approx(wanted, rel=1e-5)
    assert report.count.item() == 3
    assert report.values() == pytest.approx({"train/budget_mse": MSE})


@pytest.mark.parametrize("quantile", [None, 0.7])
def test_a_cut_rollout_only_pushes_up(quantile) -> None:
    raw = torch.tensor([[2.0], [-2.0], [2.0], [-2.0]], requires_grad=True)
    need, every = torch.full((4,), 0.5), torch.ones(4, dtype=torch.bool)
    cut = torch.tensor([True, True, False, False])
    budget_need(raw, need, every, cut, SPENDING, quantile=quantile).total.backward()
    assert raw.grad is not None
    above_cut, below_cut, above, below = raw.grad.squeeze(-1).tolist()
    assert above_cut == 0
    assert below_cut < 0  # descending raises the budget
    assert below < 0 < above


def test_the_pinball_loss_by_hand() -> None:
    report = budget_need(RAW, NEED, KNOWN, CENSORED, SPENDING, quantile=0.7)
    assert report.total.item() == pytest.approx(0.7 * 0.3 + 0 + 0.7 * (0.9 - sigmoid(-1)), rel=1e-5)
    free = torch.zeros(4, dtype=torch.bool)
    report = budget_need(RAW, NEED, KNOWN, free, SPENDING, quantile=0.7)
    wanted = 0.7 * 0.3 + 0.3 * 0.3 + 0.7 * (0.9 - sigmoid(-1))
    assert report.total.item() == pytest.approx(wanted, rel=1e-5)


def test_the_pinball_loss_finds_its_quantile() -> None:
    need = torch.linspace(0.01, 0.99, 99)
    every, free = torch.ones(99, dtype=torch.bool), torch.zeros(99, dtype=torch.bool)
    spending = Spending(need, need, every, 1)
    candidates = torch.linspace(0.005, 0.995, 100)
    losses = [
        budget_need(
            torch.logit(c).expand(99, 1), need, every, free, spending, quantile=0.7
        ).total.item()
        for c in candidates
    ]
    best = candidates[losses.index(min(losses))].item()
    assert best == pytest.approx(0.7, abs=0.011)


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.5])
def test_a_quantile_is_a_share(quantile) -> None:
    with pytest.raises(ValueError, match=r"budget\.quantile"):
        budget_need(RAW, NEED, KNOWN, CENSORED, SPENDING, quantile=quantile)


def test_experts_learn_the_same_need() -> None:
    experts = torch.tensor([[[0.0], [2.0]]]).expand(4, 2, 1)
    report = budget_need(
        RAW, NEED, KNOWN, CENSORED, SPENDING, experts=experts, per_layer_weight=0.25
    )
    own = 0.3**2 + (0.9 - sigmoid(-1)) ** 2
    rows = [
        (0.3**2 + (0.8 - sigmoid(2)) ** 2) / 2,
        0.0,  # censored below both
        ((0.9 - 0.5) ** 2 + (0.9 - sigmoid(2)) ** 2) / 2,
    ]
    assert report.total.item() == pytest.approx(own + 0.25 * sum(rows), rel=1e-5)


def test_used_is_the_plain_squared_error_over_the_largest_budget() -> None:
    report = budget_used(SPENDING)
    assert report.mean().item() == pytest.approx(MSE, rel=1e-5)
    assert report.values() == pytest.approx({"train/budget_mse": MSE})
    experts = torch.tensor([[[50.0], [90.0]]]).expand(4, 2, 1)
    report = budget_used(SPENDING, experts=experts, per_layer_weight=0.1)
    per_row = [sum(((b - used) / 200) ** 2 for b in (50, 90)) / 2 for used in (80, 60, 20)]
    assert report.total.item() == pytest.approx(3 * MSE + 0.1 * sum(per_row), rel=1e-5)


def test_used_pulls_a_budget_down_that_was_not_spent() -> None:
    predicted = torch.tensor([100.0, 100.0], requires_grad=True)
    every = torch.ones(2, dtype=torch.bool)
    budget_used(Spending(predicted, torch.tensor([40.0, 100.0]), every, 200)).total.backward()
    assert predicted.grad is not None
    assert predicted.grad[0] > 0
    assert predicted.grad[1] == 0


def test_without_a_reply_there_is_no_budget_mse() -> None:
    none = Spending(SPENDING.predicted, SPENDING.used, torch.zeros(4, dtype=torch.bool), 200)
    assert budget_mse(none).values() == {}
    assert budget_need(RAW, NEED, KNOWN, CENSORED, none).values() == {}
    assert budget_used(none).mean().item() == 0
