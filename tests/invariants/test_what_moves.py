"""Invariant 6: one optimizer step moves what is trained, all of it, and nothing else."""

from pathlib import Path

import pytest
import torch

from metacog.config.objective import LossesConfig
from metacog.config.run import RunConfig, TrainingConfig
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.gate import FeedbackGate
from metacog.model.metacog import MetacogLayer
from metacog.records import Generation
from metacog.train.gate import GateTraining, gate_shape
from metacog.train.layer import LayerTraining
from metacog.train.loop import Objective
from tests.conftest import MakeModel
from tests.invariants.replies import (
    Prompts,
    answered,
    mixed_requests,
    moved,
    random_features,
    settings,
    tensors,
)

CONFIG = RunConfig(
    run=TrainingConfig(batch=6, weight_decay=0.0), losses=LossesConfig(style_entropy=0.01)
)
"""Without weight decay, which moves what no gradient reaches."""


def one_step(objective: Objective) -> None:
    with objective.step(next(objective.batches(0))) as result:
        result.loss.backward()
    objective.optimizers.step(1.0)


def layer_training(model: MetacogModel, layer: MetacogLayer) -> LayerTraining:
    rows = random_features()
    return LayerTraining(layer, model, CONFIG, train=rows, validation=rows, patience=3)


@pytest.fixture
def model(make_tiny_model: MakeModel) -> MetacogModel:
    return make_tiny_model()


@pytest.fixture(scope="module")
def replies(tiny_model: MetacogModel, tiny_prompts: Prompts) -> list[Generation]:
    return list(answered(tiny_model, mixed_requests(tiny_prompts, 6), settings()).values())


def test_every_part_of_the_layer_moves_and_the_base_does_not(model: MetacogModel) -> None:
    assert model.reader is not None
    assert model.gate is not None
    layer = MetacogLayer(model.reader.layer.shape)
    before, base, gate = tensors(layer), tensors(model.base.model), tensors(model.gate)
    one_step(layer_training(model, layer))
    assert moved(before, layer) == set(before)
    assert {name.split(".")[0] for name in before} >= {"trunk", "aggregator", "experts", "heads"}
    assert moved(base, model.base.model) == set()
    assert moved(gate, model.gate) == set()


def test_the_gate_moves_and_layer_and_base_do_not(
    model: MetacogModel, replies: list[Generation]
) -> None:
    assert model.reader is not None
    assert model.gate is not None
    gate, layer = tensors(model.gate), tensors(model.reader.layer)
    base = tensors(model.base.model)
    one_step(GateTraining(model, model.gate, CONFIG, train=replies, validation=replies))
    assert moved(gate, model.gate) == set(gate)
    assert moved(layer, model.reader.layer) == set()
    assert moved(base, model.base.model) == set()


def test_a_gate_leaves_its_initial_state(model: MetacogModel, replies: list[Generation]) -> None:
    """With W at zero the switch has no effect yet, and no gradient."""
    initial = FeedbackGate(gate_shape(model, CONFIG))
    before = tensors(initial)
    one_step(GateTraining(model, initial, CONFIG, train=replies, validation=replies))
    assert moved(before, initial) == {"project.weight"}


def test_the_gate_is_off_the_base_between_steps(
    model: MetacogModel, replies: list[Generation]
) -> None:
    assert model.gate is not None
    training = GateTraining(model, model.gate, CONFIG, train=replies, validation=replies)
    for _ in range(2):
        with training.step(next(training.batches(0))) as result:
            assert any(part._forward_hooks for part in model.base.model.modules())
            result.loss.backward()
        assert not any(part._forward_hooks for part in model.base.model.modules())
        training.optimizers.step(1.0)


def test_a_layer_that_never_was_evaluated_is_saved_as_trained(
    model: MetacogModel, tmp_path: Path
) -> None:
    assert model.reader is not None
    torch.manual_seed(0)
    layer = MetacogLayer(model.reader.layer.shape)
    before = tensors(layer)
    training = layer_training(model, layer)
    one_step(training)
    training.save(tmp_path)
    saved = load_model(model.base.path, layer=tmp_path).reader
    assert saved is not None
    assert moved(tensors(layer), saved.layer) == set()
    assert moved(before, saved.layer) == set(before)
