"""Invariant 7: gradients with and without activation checkpointing are equal, wherever the gate is."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metacog.losses.answer import answer_loss
from metacog.model.base import for_training
from metacog.model.bundle import MetacogModel
from metacog.model.learner import Learner
from metacog.records import Generation
from metacog.train.gated import gated, read_prompts, reply_batch, reply_logits
from tests.conftest import MakeModel
from tests.invariants.replies import Prompts, answered, mixed_requests, settings

SITES = ("block", "mlp", "attention")


@pytest.fixture(scope="module")
def replies(tiny_model: MetacogModel, tiny_prompts: Prompts) -> list[Generation]:
    requests = [request for request in mixed_requests(tiny_prompts, 6) if request.budget != 0]
    return list(answered(tiny_model, requests, settings()).values())


def recomputing(model: MetacogModel) -> MetacogModel:
    base = for_training(model.base, recomputes=True, flash=False)
    return MetacogModel(base, model.reader, model.gate, model.decoding)


def loss_of(model: MetacogModel, replies: list[Generation]) -> Tensor:
    batch = reply_batch(replies, model.base.pad_id)
    return answer_loss(*reply_logits(model, batch)).mean()


def learned(model: MetacogModel, replies: list[Generation]) -> dict[str, Tensor]:
    """Gradients of everything, the gate's noise the same each time."""
    assert model.gate is not None
    model.gate.train()
    torch.manual_seed(0)
    batch = reply_batch(replies, model.base.pad_id)
    with gated(model, read_prompts(model, batch.prompts), batch.gated):
        loss_of(model, replies).backward()
    found = Learner.of(model).named_parameters()
    return {name: p.grad for name, p in found if p.grad is not None}


def passes(blocks: list[nn.Module]) -> Counter[int]:
    """Count how often each block's first part runs."""
    counted: Counter[int] = Counter()

    def counting(place: int) -> Any:
        def count(*_: Any) -> None:
            counted[place] += 1

        return count

    for place, block in enumerate(blocks):
        block.input_layernorm.register_forward_hook(counting(place))
    return counted


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("switch", ["learned", "always"])
def test_gradients_are_the_same_bit_for_bit(
    make_tiny_model: MakeModel, replies: list[Generation], site: str, switch: str
) -> None:
    kept = learned(make_tiny_model(site=site, switch=switch), replies)
    model = recomputing(make_tiny_model(site=site, switch=switch))
    counted = passes(list(model.base.blocks))
    again = learned(model, replies)
    # Once to read the prompts without a gradient, once forward, once more in the backward pass.
    assert set(counted.values()) == {3}
    assert kept.keys() == again.keys()
    assert {"base", "layer", "gate"} == {name.partition(".")[0] for name in kept}
    assert all(torch.equal(kept[name], again[name]) for name in kept)


@pytest.mark.parametrize("site", ["mlp", "attention"])
def test_a_hook_that_is_gone_in_the_backward_pass_would_be_missed(
    make_tiny_model: MakeModel, replies: list[Generation], site: str
) -> None:
    kept = learned(make_tiny_model(site=site, switch="always"), replies)
    model = recomputing(make_tiny_model(site=site, switch="always"))
    batch = reply_batch(replies, model.base.pad_id)
    with gated(model, read_prompts(model, batch.prompts), batch.gated):
        loss = loss_of(model, replies)
    with pytest.raises(torch.utils.checkpoint.CheckpointError):
        loss.backward()
    assert kept


def test_nothing_is_recomputed_and_no_mode_changed_outside_a_gradient(
    make_tiny_model: MakeModel, replies: list[Generation]
) -> None:
    model = recomputing(make_tiny_model())
    counted = passes(list(model.base.blocks))
    with torch.no_grad():
        loss_of(model, replies)
    assert set(counted.values()) == {1}
    loss_of(model, replies)
    assert not any(module.training for module in model.base.model.modules())
