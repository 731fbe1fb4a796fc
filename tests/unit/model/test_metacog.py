import math

import pytest
import torch

from metacog.model.metacog import MetacogLayer
from metacog.model.shape import LayerShape

KEYS = {"plan_logits_pl", "budget_raw_pl", "conf_raw_pl", "alpha"}
REREAD_KEYS = {"needed_raw_pl", "needed_pl", "ready_raw_pl", "gain_raw_pl", "alpha"}
UNCAPPED = math.inf


def test_a_reading_is_trunk_aggregator_and_heads_in_this_order(layer, states) -> None:
    out = layer.read(states)
    z = layer.trunk(states)
    g = sum(out.alpha[:, i : i + 1] * z[:, i] for i in range(5))
    torch.testing.assert_close(out.g, g)
    torch.testing.assert_close(out.plan_logits, layer.heads.plan(g))
    budget = 8 + 192 * torch.sigmoid(layer.heads.budget(g)).squeeze(-1)
    torch.testing.assert_close(out.budget, budget)
    spend = torch.log(1 + budget) / math.log(201)
    wanted = layer.heads.confidence(torch.cat([g, spend.unsqueeze(-1)], dim=-1))
    torch.testing.assert_close(out.conf_raw, wanted)


def test_per_layer_is_full_with_telemetry_and_empty_but_present_without(layer, states) -> None:
    full, bare = layer.read(states), layer.read(states, telemetry=False)
    assert set(full.per_layer) == KEYS
    shapes = {key: tuple(value.shape) for key, value in full.per_layer.items()}
    assert shapes == {
        "plan_logits_pl": (4, 5, 3),
        "budget_raw_pl": (4, 5, 1),
        "conf_raw_pl": (4, 5, 1),
        "alpha": (4, 5),
    }
    assert bare.per_layer == {}
    used = torch.zeros(4)
    assert set(layer.reread(states, used).per_layer) == REREAD_KEYS
    assert layer.reread(states, used, telemetry=False).per_layer == {}


def test_telemetry_changes_nothing_that_acts(layer, states) -> None:
    full, bare = layer.read(states), layer.read(states, telemetry=False)
    for name in ("plan_logits", "budget_raw", "budget", "conf_raw", "g", "alpha"):
        assert torch.equal(getattr(full, name), getattr(bare, name))


def test_alpha_is_a_distribution(layer, states) -> None:
    for alpha in (layer.read(states).alpha, layer.reread(states, torch.ones(4)).alpha):
        assert torch.isfinite(alpha).all()
        torch.testing.assert_close(alpha.sum(dim=-1), torch.ones(4))


def test_confidence_can_be_asked_again_at_the_enforced_budget(layer, states) -> None:
    enforced = torch.tensor([20.0, 50.0, 100.0, 200.0])
    out = layer.read(states)
    again = layer.confidence(out.g, enforced)
    assert torch.equal(again, layer.read(states, enforced).conf_raw)
    assert not torch.equal(again, out.conf_raw)
    assert torch.equal(layer.confidence(out.g, out.budget), out.conf_raw)


def test_no_cap_counts_as_the_largest_budget_and_too_little_as_the_smallest(layer, states) -> None:
    g = layer.read(states).g
    largest = layer.confidence(g, torch.full((4,), 200.0))
    assert torch.equal(layer.confidence(g, torch.full((4,), UNCAPPED)), largest)
    smallest = layer.confidence(g, torch.full((4,), 8.0))
    assert torch.equal(layer.confidence(g, torch.zeros(4)), smallest)


@pytest.mark.parametrize("budget", [-1.0, math.nan, -math.inf])
def test_a_budget_that_is_none_is_refused(layer, states, budget) -> None:
    budgets = torch.tensor([10.0, budget, 10.0, 10.0])
    with pytest.raises(ValueError, match="zero or more tokens"):
        layer.read(states, budgets)
    with pytest.raises(ValueError, match="zero or more tokens"):
        layer.confidence(layer.read(states).g, budgets)
    with pytest.raises(ValueError, match="zero or more tokens"):
        layer.reread(states, budgets)


def test_a_rereading_knows_its_phase_and_what_was_used(layer, states) -> None:
    early, late = layer.reread(states, torch.ones(4)), layer.reread(states, torch.full((4,), 90.0))
    for name in ("needed", "ready_raw", "gain_raw"):
        assert (getattr(early, name) != getattr(late, name)).all()
    assert not torch.equal(early.alpha, layer.read(states).alpha)
    assert ((early.needed >= 0) & (early.needed <= 200)).all()
    wanted = torch.exp(math.log(201) * torch.sigmoid(early.needed_raw.squeeze(-1))) - 1
    torch.testing.assert_close(early.needed, wanted)


def test_a_layer_starts_in_the_middle() -> None:
    torch.manual_seed(0)
    layer = MetacogLayer(LayerShape(hidden=96, num_layers=6))
    states = torch.randn(64, 6, 96)
    out, again = layer.read(states), layer.reread(states, torch.full((64,), 30.0))
    assert ((out.budget - 260) / 504).abs().max() < 0.15
    for probability in (
        out.conf_raw.sigmoid(),
        again.ready_raw.sigmoid(),
        again.gain_raw.sigmoid(),
    ):
        assert (probability - 0.5).abs().max() < 0.15
    assert 5 < again.needed.mean() < 60


def test_unlinked_only_the_last_block_counts(shape, make_layer, states) -> None:
    layer = make_layer(shape.model_copy(update={"linked_all_layers": False}))
    out = layer.read(states)
    assert out.alpha.tolist() == [[0, 0, 0, 0, 1]] * 4
    assert out.per_layer["budget_raw_pl"].shape == (4, 1, 1)
    others = torch.cat([torch.randn(4, 4, 12), states[:, 4:]], dim=1)
    assert torch.equal(layer.read(others).conf_raw, out.conf_raw)
    assert torch.equal(layer.read(states[:, 4:]).plan_logits, out.plan_logits)


def test_states_of_another_base_are_refused(layer) -> None:
    for wrong in (torch.randn(2, 4, 12), torch.randn(2, 5, 13), torch.randn(2, 1, 12)):
        with pytest.raises(ValueError, match="wanted states of 5 blocks, 12 wide"):
            layer.read(wrong)


def test_autocast_and_bf16_states_leave_it_in_fp32(layer, states) -> None:
    half = states.bfloat16()
    wanted = layer.read(half.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, again = layer.read(half), layer.reread(half, torch.ones(4))
        confidence = layer.confidence(out.g, out.budget)
    assert torch.equal(out.conf_raw, wanted.conf_raw)
    assert torch.equal(confidence, wanted.conf_raw)
    assert again.ready_raw.dtype == out.g.dtype == torch.float32


def test_a_layer_that_was_cast_down_is_refused(layer, states) -> None:
    with pytest.raises(ValueError, match="fp32, got torch"):
        layer.bfloat16().read(states)


def test_no_gradient_reaches_the_states_nor_the_budget_head_through_confidence(
    layer, states
) -> None:
    states.requires_grad_()
    layer.read(states).conf_raw.sum().backward()
    assert states.grad is None
    assert layer.heads.budget.weight.grad is None
    assert layer.trunk.inner.weight.grad is not None


def test_one_step_on_all_outputs_moves_every_parameter(shape, states) -> None:
    torch.manual_seed(0)
    layer = MetacogLayer(shape)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2)
    out, again = layer.read(states), layer.reread(states, torch.ones(4))
    parts = [out.plan_logits, out.budget_raw, out.conf_raw, again.needed_raw, again.ready_raw]
    parts += [again.gain_raw, *out.per_layer.values(), *again.per_layer.values()]
    sum(part.square().sum() for part in parts).backward()
    optimizer.step()
    assert [n for n, p in layer.named_parameters() if torch.equal(p, before[n])] == []


def test_parameter_names_are_what_saved_files_hold(layer) -> None:
    assert {name.rpartition(".")[0] for name in layer.state_dict()} == {
        "trunk",
        "trunk.inner",
        "trunk.outer",
        "aggregator.key",
        "aggregator.query",
        *(f"experts.{part}" for part in ("plan", "budget", "confidence")),
        *(f"heads.{part}" for part in ("plan", "budget", "confidence")),
        *(f"reread_experts.{part}" for part in ("needed", "ready", "gain")),
        *(f"reread_heads.{part}.{i}" for part in ("needed", "ready", "gain") for i in (0, 2)),
    }
