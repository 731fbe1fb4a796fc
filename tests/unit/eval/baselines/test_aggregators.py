"""Which blocks each aggregator can hear."""

import numpy as np
import torch

from metacog.eval.baselines.aggregators import AGGREGATORS, opinion_after_training
from metacog.eval.metrics import auroc
from metacog.model.shape import LayerShape
from tests.unit.eval.evidence import coin, replies

SHAPE = LayerShape(hidden=4, num_layers=3, proj_dim=8, budget_min=1, budget_max=100)


def told_by_first_block(seed: int):
    correct = coin(300, seed)
    states = np.random.default_rng(seed).normal(size=(300, 3, 4)).astype(np.float16)
    states[:, 0, 0] = np.where(correct, 3, -3)
    right = np.zeros((300, 11)) + correct[:, None]
    need = np.where(correct, 5.0, np.nan)
    return replies([10] * 300, correct=correct, right=right, need=need, prompt_states=states)


def test_the_last_block_alone_does_not_know_what_the_first_one_knows() -> None:
    fit, new = told_by_first_block(0), told_by_first_block(1)
    found = {
        name: auroc(
            opinion_after_training(name, SHAPE, fit, new, quantile=0.9, seed=0).confidence.tolist(),
            new.correct.tolist(),
        )
        for name in AGGREGATORS
    }
    assert min(found["attention"], found["mean"], found["scalar_mix"]) > 0.95
    assert found["last_layer"] < 0.65


def test_a_scalar_mixture_weighs_all_prompts_alike() -> None:
    aggregator = AGGREGATORS["scalar_mix"](SHAPE).aggregator
    with torch.no_grad():
        aggregator.scores.copy_(torch.tensor([0.0, 0.0, 20.0]))
    z = torch.randn(5, 3, 8)
    g, alpha = aggregator(z)
    torch.testing.assert_close(g, z[:, 2], atol=1e-5, rtol=1e-5)
    assert alpha.shape == (5, 3)
