"""The losses on a real layer: experts learn by their own losses alone, and the base by none."""

import pytest
import torch
from torch import Tensor

from metacog.losses.budget import Spending, budget_need
from metacog.losses.combine import LossName, combine
from metacog.losses.confidence import confidence_loss
from metacog.losses.plan import plan_loss
from metacog.losses.report import LossReport
from metacog.losses.reread import gain_loss, needed_loss, ready_loss
from metacog.model.metacog import MetacogLayer
from metacog.model.shape import LayerShape

EVERY = torch.ones(6, dtype=torch.bool)
USED = torch.tensor([20.0, 40.0, 60.0, 100.0, 150.0, 30.0])
LABEL = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.5])


@pytest.fixture
def layer() -> MetacogLayer:
    torch.manual_seed(0)
    return MetacogLayer(LayerShape(hidden=10, num_layers=4, proj_dim=6, budget_max=200))


def loss(layer: MetacogLayer, states: Tensor, weight: float, *, telemetry: bool = True) -> Tensor:
    out = layer.read(states, USED, telemetry=telemetry)
    again = layer.reread(states, USED, telemetry=telemetry)
    spending = Spending(out.budget, USED, EVERY, 200)

    def share(per_layer: dict[str, Tensor], key: str) -> dict[str, Tensor | float | None]:
        return {"experts": per_layer.get(key), "per_layer_weight": weight}

    plan = torch.tensor([0, 1, 2, 3, 0, 1])
    reports: dict[LossName, LossReport] = {
        LossName.PLAN: plan_loss(
            out.plan_logits, plan, EVERY, **share(out.per_layer, "plan_logits_pl")
        ),
        LossName.BUDGET: budget_need(
            out.budget_raw,
            layer.scale.fraction(USED),
            EVERY,
            ~EVERY,
            spending,
            **share(out.per_layer, "budget_raw_pl"),
        ),
        LossName.CONFIDENCE: confidence_loss(
            out.conf_raw, LABEL, EVERY, **share(out.per_layer, "conf_raw_pl")
        ),
        LossName.NEEDED: needed_loss(
            again.needed, USED, EVERY, **share(again.per_layer, "needed_pl")
        ),
        LossName.READY: ready_loss(
            again.ready_raw, LABEL, EVERY, **share(again.per_layer, "ready_raw_pl")
        ),
        LossName.GAIN: gain_loss(
            again.gain_raw, LABEL, EVERY, **share(again.per_layer, "gain_raw_pl")
        ),
    }
    return combine(reports, dict.fromkeys(reports, 1.0))


def moved(layer: MetacogLayer, *, experts: bool) -> list[bool]:
    return [
        parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        for name, parameter in layer.named_parameters()
        if ("experts" in name) is experts
    ]


def test_with_per_layer_losses_all_learn_and_the_states_get_nothing(layer) -> None:
    states = torch.randn(6, 4, 10, requires_grad=True)
    loss(layer, states, 0.1).backward()
    assert all(moved(layer, experts=True))
    assert all(moved(layer, experts=False))
    assert states.grad is None


def test_without_them_experts_never_move(layer) -> None:
    loss(layer, torch.randn(6, 4, 10), 0.0).backward()
    assert not any(moved(layer, experts=True))
    assert all(moved(layer, experts=False))


def test_per_layer_losses_want_telemetry(layer) -> None:
    with pytest.raises(ValueError, match="Read the layer with telemetry"):
        loss(layer, torch.randn(6, 4, 10), 0.1, telemetry=False)


def test_a_layer_learns_what_it_is_taught(layer) -> None:
    states = torch.randn(6, 4, 10)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=2e-2)
    for _ in range(200):
        optimizer.zero_grad()
        loss(layer, states, 0.1).backward()
        optimizer.step()
    out, again = layer.read(states, USED), layer.reread(states, USED)
    assert out.plan_logits.argmax(dim=-1).tolist() == [0, 1, 2, 3, 0, 1]
    torch.testing.assert_close(out.budget, USED, rtol=0.1, atol=5)
    torch.testing.assert_close(again.needed, USED, rtol=0.2, atol=5)
    for probability in (out.conf_raw.sigmoid(), again.ready_raw.sigmoid()):
        assert ((probability.squeeze(-1) - LABEL).abs() < 0.2).all()
    experts = layer.scale.tokens(out.per_layer["budget_raw_pl"]).squeeze(-1)
    assert (experts - USED.unsqueeze(-1)).abs().mean() < 15
