import pytest
import torch

from metacog.losses.policy import policy_loss

LOGITS = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
TARGETS = torch.tensor([0, 1, 2, 2])
EVERY = torch.ones(4, dtype=torch.bool)
NOW = LOGITS.log_softmax(-1)[torch.arange(4), TARGETS]
ADVANTAGE = torch.tensor([1.0, -0.5, 2.0, -1.0])


def test_on_policy_the_gradient_is_that_of_reinforce() -> None:
    logits, plain = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    report = policy_loss(logits, TARGETS, EVERY, NOW, ADVANTAGE, clip_ratio=0.2)
    report.total.backward()
    chosen = plain.log_softmax(-1)[torch.arange(4), TARGETS]
    (-(ADVANTAGE * chosen).sum()).backward()
    torch.testing.assert_close(logits.grad, plain.grad)
    assert report.total.item() == pytest.approx(-float(ADVANTAGE.sum()), rel=1e-6)
    assert report.values()["rl/clip_ratio"] == 0


@pytest.mark.parametrize(
    ("moved", "advantage", "wanted", "flows"),
    [
        (1.5, 1.0, -1.2, False),  # already likelier than is rewarded
        (1.5, -1.0, 1.5, True),  # likelier, and wrongly: still pushed down
        (0.5, 1.0, -0.5, True),
        (0.5, -1.0, 0.8, False),
    ],
)
def test_what_went_far_enough_is_clipped(
    moved: float, advantage: float, wanted: float, flows: bool
) -> None:
    logits = LOGITS[:1].clone().requires_grad_()
    before = NOW[:1] - torch.tensor([moved]).log()
    report = policy_loss(
        logits, TARGETS[:1], EVERY[:1], before, torch.tensor([advantage]), clip_ratio=0.2
    )
    report.total.backward()
    assert report.total.item() == pytest.approx(wanted, rel=1e-5)
    assert logits.grad is not None
    assert bool((logits.grad != 0).any()) == flows
    assert report.values()["rl/clip_ratio"] == float(not flows)


def test_tokens_that_were_not_the_policys_choice_count_nowhere() -> None:
    trained = torch.tensor([True, False, True, False])
    logits = LOGITS.clone().requires_grad_()
    report = policy_loss(logits, TARGETS, trained, NOW, ADVANTAGE, clip_ratio=0.2)
    report.total.backward()
    assert float(report.count) == 2
    assert logits.grad is not None
    assert bool((logits.grad[~trained] == 0).all())
    assert bool((logits.grad[trained] != 0).any(-1).all())


def test_entropy_is_in_nats_and_over_sampled_tokens() -> None:
    flat = torch.zeros(2, 8)
    report = policy_loss(
        flat, TARGETS[:2], torch.tensor([True, False]), NOW[:2], ADVANTAGE[:2], clip_ratio=0.2
    )
    assert report.values()["train/entropy"] == pytest.approx(torch.tensor(8.0).log().item())
