import math
from statistics import mean, pvariance

import pytest
import torch

from metacog.model.layer_stats import alpha_entropy, budget_variance, layer_rows, plan_agreement


def test_entropy_of_alpha() -> None:
    alpha = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.0, 0.0]])
    assert alpha_entropy(alpha).tolist() == pytest.approx([math.log(4), 0.0, math.log(2)])


def test_agreement_is_the_share_of_experts_with_the_global_plan() -> None:
    plan = torch.tensor([[0.0, 2.0], [3.0, 1.0]])
    experts = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, 5.0]], [[0.0, 1.0]] * 3])
    assert plan_agreement(plan, experts).tolist() == pytest.approx([2 / 3, 0.0])


def test_variance_is_over_blocks() -> None:
    budgets = torch.tensor([[[1.0], [2.0], [6.0]], [[4.0], [4.0], [4.0]]])
    assert budget_variance(budgets).tolist() == pytest.approx([pvariance([1, 2, 6]), 0.0])


def test_metrics_of_a_reading(layer, states) -> None:
    out = layer.read(states)
    rows = layer_rows(out, layer.scale)
    assert all(len(row) == len(states) for row in rows.values())
    found = {name: row.mean().item() for name, row in rows.items()}
    tokens = layer.scale.tokens(out.per_layer["budget_raw_pl"]).squeeze(-1).tolist()
    assert found["metacog/budget_variance"] == pytest.approx(mean(map(pvariance, tokens)), rel=1e-4)
    assert found["metacog/alpha/mean"] == pytest.approx(1 / 5)
    assert found["metacog/alpha/min"] < 1 / 5 < found["metacog/alpha/max"]
    assert 0 < found["metacog/alpha/entropy"] < math.log(5)
    assert 0 <= found["metacog/plan_agreement"] <= 1
    assert all(math.isfinite(value) for value in found.values())


def test_what_has_no_value_is_absent(layer, states) -> None:
    bare = layer_rows(layer.read(states, telemetry=False), layer.scale)
    assert {name for name in bare if "alpha" not in name} == set()
    assert bare
