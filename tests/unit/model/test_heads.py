import pytest
import torch

from metacog.model.heads import Experts, GlobalHeads, PerBlockLinear, RereadExperts, RereadHeads


def test_one_batched_map_is_a_loop_over_blocks() -> None:
    torch.manual_seed(0)
    maps, z = PerBlockLinear(3, 5, 2), torch.randn(4, 3, 5)
    torch.nn.init.normal_(maps.bias)
    y = maps(z)
    for layer in range(3):
        wanted = torch.nn.functional.linear(z[:, layer], maps.weight[layer], maps.bias[layer])
        torch.testing.assert_close(y[:, layer], wanted)


def test_each_block_has_parameters_of_its_own() -> None:
    torch.manual_seed(0)
    experts, z, spend = Experts(5, 3, 4), torch.randn(2, 3, 5), torch.rand(2, 1)
    before = experts(z, spend)
    with torch.no_grad():
        for maps in (experts.plan, experts.budget, experts.confidence):
            maps.weight[1] += 1
    after = experts(z, spend)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[:, [0, 2]], new[:, [0, 2]])
        assert not torch.equal(old[:, 1], new[:, 1])


def test_experts_have_the_shapes_of_the_requirements() -> None:
    opinions = Experts(5, 3, 4)(torch.randn(2, 3, 5), torch.rand(2, 1))
    assert [tuple(t.shape) for t in opinions] == [(2, 3, 4), (2, 3, 1), (2, 3, 1)]


def test_an_expert_judges_confidence_from_its_projection_and_the_budget() -> None:
    torch.manual_seed(0)
    experts, z = Experts(5, 3, 4), torch.randn(2, 3, 5)
    spend = torch.tensor([[0.25], [0.75]])
    weight = experts.confidence.weight
    wanted = (z * weight[:, 0, :5]).sum(-1) + spend * weight[:, 0, 5] + experts.confidence.bias.T
    torch.testing.assert_close(experts(z, spend).conf_raw.squeeze(-1), wanted)


def test_only_confidence_takes_the_budget() -> None:
    torch.manual_seed(0)
    experts, z = Experts(5, 3, 4), torch.randn(2, 3, 5)
    low, high = experts(z, torch.zeros(2, 1)), experts(z, torch.ones(2, 1))
    assert torch.equal(low.plan_logits, high.plan_logits)
    assert torch.equal(low.budget_raw, high.budget_raw)
    assert not torch.equal(low.conf_raw, high.conf_raw)


def test_global_heads_are_linear_in_g() -> None:
    torch.manual_seed(0)
    heads, g, spend = GlobalHeads(5, 4), torch.randn(2, 5), torch.rand(2, 1)
    plan, budget = heads.decide(g)
    torch.testing.assert_close(plan, g @ heads.plan.weight.T + heads.plan.bias)
    torch.testing.assert_close(budget, g @ heads.budget.weight.T + heads.budget.bias)
    weight = heads.confidence.weight
    wanted = g @ weight[:, :5].T + spend @ weight[:, 5:].T + heads.confidence.bias
    torch.testing.assert_close(heads.believe(g, spend), wanted)


@pytest.mark.parametrize(("hidden", "width"), [(None, 5), (9, 9)])
def test_reread_heads_have_one_hidden_layer_of_a_width_to_choose(hidden, width) -> None:
    torch.manual_seed(0)
    heads, g, spent = RereadHeads(5, hidden), torch.randn(2, 5), torch.rand(2, 1)
    first, _, last = heads.ready
    assert first.weight.shape == (width, 6)
    inner = torch.cat([g, spent], dim=-1) @ first.weight.T + first.bias
    wanted = (inner * inner.sigmoid()) @ last.weight.T + last.bias
    torch.testing.assert_close(heads(g, spent).ready_raw, wanted)


def test_reread_experts_take_what_was_spent() -> None:
    torch.manual_seed(0)
    experts, z = RereadExperts(5, 3), torch.randn(2, 3, 5)
    low, high = experts(z, torch.zeros(2, 1)), experts(z, torch.ones(2, 1))
    for before, after in zip(low, high, strict=True):
        assert before.shape == (2, 3, 1)
        assert (before != after).all()


def test_heads_start_near_the_middle_but_not_at_zero() -> None:
    torch.manual_seed(0)
    g = torch.randn(256, 64)
    _, budget = GlobalHeads(64, 4).decide(g)
    outlook = RereadHeads(64)(g, torch.rand(256, 1))
    for raw in (budget, *outlook):
        assert 0 < raw.abs().max() < 1
