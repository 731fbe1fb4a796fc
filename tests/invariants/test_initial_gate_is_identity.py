"""Invariant 2: an initial gate equals the base bit for bit; reading never changes logits."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metacog.decode.batch import causal, left_padded_ids
from metacog.model.base import gated_module
from metacog.model.bundle import MetacogModel
from metacog.model.gate import FeedbackGate, GateShape, gate
from metacog.model.taps import taps
from metacog.train.gated import gated, positions_of, read_prompts
from tests.conftest import MakeModel
from tests.invariants.replies import Prompts, answered, mixed_requests, settings

SITES = ("block", "mlp", "attention")


def logits_of(model: MetacogModel, prompts: Prompts) -> Tensor:
    """The logits at every position of a padded batch."""
    ids, valid = left_padded_ids(prompts, model.base.pad_id)
    states = model.base.hidden_states(ids, mask=causal(valid), positions=positions_of(valid))
    return model.base.unembed(states).detach()


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("switch", ["learned", "always"])
@pytest.mark.parametrize("training", [False, True])
def test_an_initial_gate_changes_no_bit(
    tiny_base_model: MetacogModel, tiny_prompts: Prompts, site: str, switch: str, training: bool
) -> None:
    shape = GateShape(hidden=32, inputs=13, layer=1, site=site, switch=switch)
    feedback = FeedbackGate(shape).train(training)
    batch = len(tiny_prompts)
    gamma = feedback.gamma(torch.randn(batch, 8), torch.randn(batch, 4), torch.randn(batch, 1))
    bare = logits_of(tiny_base_model, tiny_prompts)
    everywhere = torch.ones(batch, max(map(len, tiny_prompts)), dtype=torch.bool)
    module = gated_module(tiny_base_model.base.blocks[1], site)
    with gate(module, feedback) as state:
        state.set(gamma, everywhere)
        assert torch.equal(logits_of(tiny_base_model, tiny_prompts), bare)
        assert state.change is not None
        assert not state.change.any()


@pytest.mark.parametrize("site", SITES)
def test_replies_under_an_initial_gate_are_the_bases(
    make_tiny_model: MakeModel, tiny_prompts: Prompts, site: str
) -> None:
    model = make_tiny_model(site=site)
    assert model.gate is not None
    initial = replace(model, gate=FeedbackGate(model.gate.shape).eval())
    requests = mixed_requests(tiny_prompts, 6)
    on = answered(initial, requests, settings())
    off = answered(initial, requests, settings(gate=False))
    assert {key: reply.steps for key, reply in on.items()} == {
        key: reply.steps for key, reply in off.items()
    }


def test_reading_changes_no_bit(tiny_model: MetacogModel, tiny_prompts: Prompts) -> None:
    bare = logits_of(tiny_model, tiny_prompts)
    assert tiny_model.reader is not None
    with taps(tiny_model.base.blocks) as tapped:
        read = logits_of(tiny_model, tiny_prompts)
        last = torch.full((len(tiny_prompts),), read.shape[1] - 1)
        tiny_model.reader.read(tapped.at(last))
        tiny_model.reader.reread(tapped.at(last), torch.ones(len(tiny_prompts)))
        assert torch.equal(logits_of(tiny_model, tiny_prompts), bare)
    assert torch.equal(read, bare)


@pytest.mark.parametrize("site", SITES)
def test_nothing_changes_before_the_first_gated_token(
    make_tiny_model: MakeModel, tiny_prompts: Prompts, site: str
) -> None:
    model = make_tiny_model(site=site, switch="always")
    bare = logits_of(model, tiny_prompts)
    thinking = torch.zeros(bare.shape[:2], dtype=torch.bool)
    first = bare.shape[1] - 3
    thinking[:, first:-1] = True
    with gated(model, read_prompts(model, tiny_prompts), thinking):
        changed = logits_of(model, tiny_prompts)
    assert torch.equal(changed[:, :first], bare[:, :first])
    assert (changed[:, first:] != bare[:, first:]).any(-1).all()


def test_a_gated_module_keeps_its_output_outside_think(
    make_tiny_model: MakeModel, tiny_prompts: Prompts
) -> None:
    """The last block's own output: nothing after it mixes positions."""
    model = make_tiny_model(layer=2, switch="always")
    bare = logits_of(model, tiny_prompts)
    thinking = torch.rand(bare.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.5
    with gated(model, read_prompts(model, tiny_prompts), thinking):
        changed = logits_of(model, tiny_prompts)
    assert torch.equal(changed[~thinking], bare[~thinking])
    assert (changed[thinking] != bare[thinking]).any(-1).all()
