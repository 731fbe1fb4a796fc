import pytest
import torch

from metacog.losses.report import LossReport, Tally, labelled, over_known, taught, with_experts

KNOWN = torch.tensor([True, False, True])


def test_a_report_sums_the_known_rows() -> None:
    report = over_known(torch.tensor([1.0, 50.0, 3.0]), KNOWN, {"m": torch.tensor([2.0, 9.0, 5.0])})
    assert report.total.item() == 4
    assert report.count.item() == 2
    assert report.mean().item() == 2
    assert report.values() == {"m": 3.5}


def test_without_a_label_the_loss_is_zero_with_zero_gradient_and_metrics_are_absent() -> None:
    losses = torch.ones(3, requires_grad=True)
    report = over_known(losses, torch.zeros(3, dtype=torch.bool), {"m": losses})
    report.mean().backward()
    assert report.mean().item() == 0
    assert losses.grad is not None
    assert losses.grad.tolist() == [0, 0, 0]
    assert report.values() == {}
    assert Tally(torch.tensor(0.0), torch.tensor(0.0)).mean() is None


def test_adding_reports_is_one_report_of_all_rows() -> None:
    losses, metric = torch.rand(6), torch.rand(6)
    known = torch.tensor([True, False, True, True, False, False])
    whole = over_known(losses, known, {"m": metric})
    parts = [over_known(losses[i], known[i], {"m": metric[i]}) for i in torch.arange(6).split(2)]
    added = parts[0] + parts[1] + parts[2]
    torch.testing.assert_close(added.mean(), whole.mean())
    assert added.values() == pytest.approx(whole.values())


def test_a_metric_that_only_one_side_has_is_kept() -> None:
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    left = LossReport(one, one, {"a": Tally(one, one)})
    right = LossReport(one, one, {"b": Tally(zero, one)})
    assert (left + right).values() == {"a": 1.0, "b": 0.0}


def test_the_mean_can_be_over_the_labels_of_the_whole_step() -> None:
    report = over_known(torch.tensor([1.0, 50.0, 3.0]), KNOWN)
    assert report.mean(torch.tensor(8.0)).item() == 0.5


def test_a_missing_label_is_replaced_even_when_it_is_nan() -> None:
    label = labelled(torch.tensor([1.0, torch.nan, 3.0]), KNOWN)
    assert label.tolist() == [[1.0], [0.0], [3.0]]


def test_experts_weigh_by_their_mean() -> None:
    own, experts = torch.tensor([[1.0], [2.0]]), torch.tensor([[[2.0], [4.0]], [[0.0], [1.0]]])
    assert with_experts(own, experts, 0.1).tolist() == pytest.approx([1.3, 2.05])
    assert with_experts(own, None, 0.1).tolist() == [1, 2]


def test_experts_that_are_to_learn_must_be_there() -> None:
    with pytest.raises(ValueError, match=r"metacog\.per_layer_weight"):
        taught(None, 0.1)
    assert taught(None, 0.0) is None
    assert taught(torch.ones(1), 0.0) is None
