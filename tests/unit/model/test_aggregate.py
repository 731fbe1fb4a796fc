import math

import pytest
import torch

from metacog.model.aggregate import LayerAggregator


def test_attention_weighs_as_the_equation_says() -> None:
    torch.manual_seed(0)
    aggregator, z = LayerAggregator(4), torch.randn(2, 3, 4)
    torch.nn.init.normal_(aggregator.query.weight, std=2.0)
    g, alpha = aggregator(z)
    v, u = aggregator.query.weight[0].tolist(), aggregator.key.weight.tolist()
    for row in range(2):
        scores = []
        for block in z[row].tolist():
            inner = [math.tanh(sum(a * b for a, b in zip(line, block, strict=True))) for line in u]
            scores.append(math.exp(sum(a * b for a, b in zip(v, inner, strict=True))))
        weights = [score / sum(scores) for score in scores]
        assert alpha[row].tolist() == pytest.approx(weights, abs=1e-5)
        wanted = [
            sum(w * block[d] for w, block in zip(weights, z[row].tolist(), strict=True))
            for d in range(4)
        ]
        assert g[row].tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_mean_weighs_all_alike_and_learns_nothing() -> None:
    aggregator, z = LayerAggregator(4, "mean"), torch.randn(2, 3, 4)
    g, alpha = aggregator(z)
    torch.testing.assert_close(alpha, torch.full((2, 3), 1 / 3))
    torch.testing.assert_close(g, z.mean(dim=1))
    assert list(aggregator.parameters()) == []


@pytest.mark.parametrize("agg", ["attn", "mean"])
def test_unlinked_the_last_block_has_all_weight(agg) -> None:
    aggregator, z = LayerAggregator(4, agg, linked_all_layers=False), torch.randn(2, 3, 4)
    g, alpha = aggregator(z)
    assert alpha.tolist() == [[0, 0, 1], [0, 0, 1]]
    assert torch.equal(g, z[:, 2])
    assert list(aggregator.parameters()) == []


def test_attention_starts_nearly_even_and_can_learn() -> None:
    torch.manual_seed(0)
    aggregator, z = LayerAggregator(64), torch.randn(8, 6, 64)
    g, alpha = aggregator(z)
    assert (alpha - 1 / 6).abs().max() < 0.1
    g.square().sum().backward()
    for parameter in aggregator.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
