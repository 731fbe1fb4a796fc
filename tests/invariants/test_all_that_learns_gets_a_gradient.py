"""T12, on one process: no parameter that an optimizer holds is left without a gradient by a step.

Replicas would wait for it, or learn apart.
"""

from pathlib import Path

import pytest

from metacog.config import RunConfig, parse
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.gate import FeedbackGate
from metacog.records import Generation
from metacog.train.gate import GateTraining, gate_shape
from metacog.train.layer import LayerTraining
from metacog.train.loop import Objective
from metacog.train.prepare import prepare_imitation, prepare_practice
from tests.conftest import MakeModel
from tests.faults.processes import imitation
from tests.invariants.replies import (
    Prompts,
    answered,
    mixed_requests,
    random_features,
    settings,
)

SWITCHES = ("learned", "always")


def without_gradient(objective: Objective) -> list[str]:
    """Take a whole step's gradient, and name what of each group has none."""
    parts = objective.parts(next(objective.batches(0)))
    counts = objective.counts(parts)
    for part in parts:
        with objective.step(part, counts, objective.learner()) as result:
            result.loss.backward()
    return [
        f"{group.name}/{place}"
        for group in objective.optimizers.groups
        for place, parameter in enumerate(group.parameters)
        if parameter.grad is None
    ]


def configured(path: Path, **changes: object) -> RunConfig:
    return parse({**imitation(path), **changes}, source="test")


@pytest.mark.parametrize("switch", SWITCHES)
def test_of_imitation(tiny_directory: Path, switch: str) -> None:
    config = configured(
        tiny_directory,
        feedback={"switch": switch},
        adaptation={"enabled": True, "mode": "lora", "last_k": 3},
    )
    objective = config.run.objective
    model = load_model(tiny_directory)
    training = prepare_imitation(config, objective, model, [], None)
    assert without_gradient(training) == []
    assert {group.name for group in training.optimizers.groups} == {"layer", "gate", "adapters"}


def test_of_the_layer(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model()
    rows = random_features(6, 4)
    assert model.reader is not None
    training = LayerTraining(
        model.reader.layer, model, RunConfig(), train=rows, validation=rows, patience=1
    )
    assert without_gradient(training) == []


@pytest.mark.parametrize("switch", SWITCHES)
def test_of_the_gate(
    make_tiny_model: MakeModel, tiny_model: MetacogModel, tiny_prompts: Prompts, switch: str
) -> None:
    requests = [request for request in mixed_requests(tiny_prompts, 4) if request.budget != 0]
    replies: list[Generation] = list(answered(tiny_model, requests, settings()).values())
    config = parse({"feedback": {"switch": switch}, "run": {"batch": 2}}, source="test")
    model = make_tiny_model()
    feedback = FeedbackGate(gate_shape(model, config))
    training = GateTraining(model, feedback, config, train=replies, validation=replies)
    assert without_gradient(training) == []


def test_of_practice(tiny_directory: Path, make_tiny_model: MakeModel) -> None:
    run = {
        **imitation(tiny_directory)["run"],
        "objective": {"kind": "practice", "group_size": 4, "predicted": 1, "uncapped": 1},
    }
    config = configured(
        tiny_directory, run=run, adaptation={"enabled": True, "mode": "lora", "last_k": 3}
    )
    training = prepare_practice(config, config.run.objective, make_tiny_model())
    assert without_gradient(training) == []
