"""A random gate is as strong as the one it stands for, and another one."""

import torch

from metacog.eval.baselines.random_gate import random_gate


def test_every_channel_keeps_its_norm_and_the_learned_gate_its_weights(tiny_model) -> None:
    learned = tiny_model.gate
    before = learned.project.weight.clone()
    drawn = random_gate(learned, seed=1)
    torch.testing.assert_close(drawn.project.weight.norm(dim=1), learned.project.weight.norm(dim=1))
    assert torch.equal(learned.project.weight, before)
    cosine = torch.nn.functional.cosine_similarity(drawn.project.weight, before, dim=1)
    assert cosine.abs().mean() < 0.5
    assert torch.equal(drawn.switch.weight, learned.switch.weight)
    assert torch.equal(drawn.project.weight, random_gate(learned, seed=1).project.weight)
