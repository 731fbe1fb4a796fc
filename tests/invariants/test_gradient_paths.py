"""Invariant 7: no loss of the layer reaches the base; the LM loss reaches gate, g and base."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from metacog.config.run import RunConfig
from metacog.decode.batch import causal, left_padded_ids
from metacog.losses.answer import answer_loss
from metacog.model.base import gated_module
from metacog.model.bundle import MetacogModel
from metacog.model.metacog import MetacogLayer
from metacog.model.taps import taps
from metacog.records import Generation
from metacog.train.gated import gated, positions_of, read_prompts, reply_batch, reply_logits
from metacog.train.layer import LayerTraining
from tests.conftest import MakeModel
from tests.invariants.replies import (
    Prompts,
    answered,
    mixed_requests,
    random_features,
    settings,
)

Grads = dict[str, Tensor]
SITES = ("block", "mlp", "attention")


@pytest.fixture(scope="module")
def replies(tiny_model: MetacogModel, tiny_prompts: Prompts) -> list[Generation]:
    requests = [request for request in mixed_requests(tiny_prompts, 8) if request.budget != 0]
    return list(answered(tiny_model, requests, settings()).values())


def gradients(module: nn.Module) -> Grads:
    return {
        name: parameter.grad.clone()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def reached(grads: Grads) -> set[str]:
    """Parts of a module in which some gradient is not exactly zero."""
    return {name.split(".")[0] for name, grad in grads.items() if bool(grad.any())}


def lm_backward(model: MetacogModel, replies: list[Generation], shift: float = 0.0) -> None:
    """Take the LM loss's gradients everywhere, with g moved by `shift`."""
    batch = reply_batch(replies, model.base.pad_id)
    reading = read_prompts(model, batch.prompts)
    with gated(model, replace(reading, g=reading.g + shift), batch.gated):
        answer_loss(*reply_logits(model, batch)).mean().backward()


def layer_of(model: MetacogModel) -> MetacogLayer:
    assert model.reader is not None
    return model.reader.layer


def test_no_loss_of_the_layer_reaches_the_base(
    make_tiny_model: MakeModel, tiny_prompts: Prompts
) -> None:
    """Even where the base learns and the taps are live."""
    model = make_tiny_model()
    base = model.base
    ids, valid = left_padded_ids(tiny_prompts, base.pad_id)
    with taps(base.blocks) as tapped:
        states = base.hidden_states(ids, mask=causal(valid), positions=positions_of(valid))
    end = torch.full((len(ids),), ids.shape[1] - 1)
    live = tapped.at(end)
    points = tapped.gather(torch.arange(len(ids)).repeat_interleave(2), end.repeat_interleave(2))
    assert live.requires_grad
    assert points.requires_grad
    rows = random_features(len(ids), 2, prompt_states=live, point_states=points)
    training = LayerTraining(
        layer_of(model), model, RunConfig(), train=rows, validation=rows, patience=1
    )
    with training.step(next(training.batches(0))) as result:
        result.loss.backward()
    assert gradients(base.model) == {}
    assert reached(gradients(layer_of(model))) >= {"trunk", "aggregator", "experts", "heads"}
    states.sum().backward()
    assert reached(gradients(base.model)), "the taps were live, so only the detaching kept it out"


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("switch", ["learned", "always"])
def test_the_lm_loss_reaches_gate_aggregator_and_trunk(
    make_tiny_model: MakeModel, replies: list[Generation], site: str, switch: str
) -> None:
    model = make_tiny_model(site=site, switch=switch)
    assert model.gate is not None
    model.gate.train()
    lm_backward(model, replies)
    learns = {"project", "switch"} if switch == "learned" else {"project"}
    assert reached(gradients(model.gate)) == learns
    assert reached(gradients(layer_of(model))) == {"trunk", "aggregator"}


def test_with_w_at_zero_it_reaches_w_alone(
    make_tiny_model: MakeModel, replies: list[Generation]
) -> None:
    model = make_tiny_model(spread=0.0)
    assert model.gate is not None
    lm_backward(model, replies)
    assert reached(gradients(model.gate)) == {"project"}
    assert reached(gradients(layer_of(model))) == set()


@pytest.mark.parametrize("site", SITES)
def test_the_bases_gradients_depend_on_gate_and_g(
    make_tiny_model: MakeModel, replies: list[Generation], site: str
) -> None:
    on, off, other = (make_tiny_model(site=site, switch="always") for _ in range(3))
    lm_backward(on, replies)
    lm_backward(replace(off, gate=None), replies)
    lm_backward(other, replies, shift=1.0)
    found = [gradients(model.base.model) for model in (on, off, other)]
    assert all(len(grads) == len(found[0]) > 0 for grads in found)
    for one, two in ((found[0], found[1]), (found[0], found[2])):
        same = {n for n in one if torch.allclose(one[n], two[n], rtol=1e-3)}
        assert same == set()


@contextmanager
def runs_of(module: nn.Module) -> Iterator[list[int]]:
    """Count how often a module starts to run; a recomputation may stop before its end."""
    runs = [0]

    def count(*_: object) -> None:
        runs[0] += 1

    handle = module.register_forward_pre_hook(count)
    try:
        yield runs
    finally:
        handle.remove()


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("switch", ["learned", "always"])
def test_checkpointing_changes_no_gradient(
    make_tiny_model: MakeModel, replies: list[Generation], site: str, switch: str
) -> None:
    def measured(prepare: Callable[[MetacogModel], None]) -> tuple[Grads, Grads, Grads, int]:
        model = make_tiny_model(site=site, switch=switch)
        assert model.gate is not None
        model.base.model.train()
        model.gate.train()
        prepare(model)
        torch.manual_seed(7)
        with runs_of(gated_module(model.base.blocks[1], "mlp")) as runs:
            lm_backward(model, replies)
        parts = (model.base.model, model.gate, layer_of(model))
        base, gate, layer = (gradients(part) for part in parts)
        return base, gate, layer, runs[0]

    def checkpointed(model: MetacogModel) -> None:
        model.base.model.activation_checkpointing_enable({"use_reentrant": False})

    *plain, runs = measured(lambda _: None)
    *again, runs_again = measured(checkpointed)
    assert runs_again == runs + 1, "the block ran again in the backward pass"
    for one, two in zip(plain, again, strict=True):
        assert reached(one)
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)
