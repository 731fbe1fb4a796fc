import pytest
import torch
from torch import nn

from metacog.losses.combine import LossName, accumulate, combine, loss_values
from metacog.losses.confidence import confidence_loss
from metacog.losses.plan import plan_loss
from metacog.losses.report import LossReport, over_known

WEIGHTS = {LossName.PLAN: 0.5, LossName.CONFIDENCE: 2.0}


def reports(model: nn.Linear, rows: slice) -> dict[LossName, LossReport]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 3, generator=generator, dtype=torch.float64)[rows]
    plan = torch.randint(3, (8,), generator=generator)[rows]
    right = torch.randint(2, (8,), generator=generator).double()[rows]
    labelled = torch.tensor([True, False, False, False, True, True, False, True])[rows]
    out = model(x)
    return {
        LossName.PLAN: plan_loss(out[:, :3], plan, labelled),
        LossName.CONFIDENCE: confidence_loss(out[:, 3:], right, torch.ones_like(labelled)),
    }


@pytest.fixture
def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 4).double()


def test_accumulated_gradients_are_those_of_one_batch(model) -> None:
    whole = reports(model, slice(None))
    combine(whole, WEIGHTS).backward()
    wanted = model.weight.grad.clone()
    model.weight.grad = None
    counts = {name: report.count for name, report in whole.items()}
    for start in range(8):
        part = reports(model, slice(start, start + 1))
        combine(part, WEIGHTS, counts).backward()
    torch.testing.assert_close(model.weight.grad, wanted)


def test_accumulated_values_are_those_of_one_batch(model) -> None:
    kept: dict[LossName, LossReport] = {}
    for start in range(0, 8, 2):
        kept = accumulate(kept, reports(model, slice(start, start + 2)))
    assert not any(report.total.requires_grad for report in kept.values())
    wanted = loss_values(reports(model, slice(None)), WEIGHTS)
    assert loss_values(kept, WEIGHTS) == pytest.approx(wanted)
    assert set(wanted) == {
        "train/loss",
        "train/loss_plan",
        "train/loss_confidence",
        "train/plan_accuracy",
        "metacog/confidence/brier",
        "metacog/confidence/mean",
    }


def test_the_sum_is_weighted(model) -> None:
    values = loss_values(reports(model, slice(None)), WEIGHTS)
    wanted = 0.5 * values["train/loss_plan"] + 2 * values["train/loss_confidence"]
    assert values["train/loss"] == pytest.approx(wanted)
    assert combine(reports(model, slice(None)), WEIGHTS).item() == pytest.approx(wanted)


def test_a_loss_without_a_label_is_absent_and_gives_no_gradient(model) -> None:
    part = reports(model, slice(1, 4))
    assert "train/loss_plan" not in loss_values(part, WEIGHTS)
    assert "train/plan_accuracy" not in loss_values(part, WEIGHTS)
    combine(part, WEIGHTS).backward()
    assert model.weight.grad[:3].abs().sum() == 0
    assert model.weight.grad[3].abs().sum() > 0


def test_nothing_at_all_has_no_value() -> None:
    empty = over_known(torch.zeros(2), torch.zeros(2, dtype=torch.bool))
    assert loss_values({LossName.ANSWER: empty}, {LossName.ANSWER: 1.0}) == {}


def test_what_is_missing_is_named(model) -> None:
    found = reports(model, slice(None))
    with pytest.raises(ValueError, match="weight, got none for confidence"):
        combine(found, {LossName.PLAN: 1.0})
    with pytest.raises(ValueError, match="count, got none for plan, confidence"):
        combine(found, WEIGHTS, {})
    with pytest.raises(ValueError, match="at least one report"):
        combine({}, WEIGHTS)
