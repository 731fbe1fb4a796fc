from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from metacog.config import RunConfig, parse
from metacog.decode.collect import Rollout
from metacog.decode.engine import Engine
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.gate import FeedbackGate
from metacog.records import Request
from metacog.train.gate import GateTraining, gate_shape, shortest_right

MakeRollout = Callable[..., Rollout]


def configured(**feedback: object) -> RunConfig:
    run = {"batch": 2, "learning_rate": 0.05, "objective": {"kind": "gate"}}
    return parse({"feedback": feedback, "run": run}, source="test")


def test_the_shortest_right_rollout_of_each_question_is_kept(make_rollout: MakeRollout) -> None:
    long = make_rollout(0, think=(1,) * 9, answer=(5,))
    short = make_rollout(0, think=(1,) * 4, answer=(5, 6))
    shorter_but_wrong = make_rollout(0, think=(1,), correct=False)
    shorter_but_cut = make_rollout(0, think=(1,), finished=False)
    all_wrong = make_rollout(1, correct=False)
    other = make_rollout(2, think=(1,) * 30)
    kept = shortest_right([long, shorter_but_wrong, short, all_wrong, other, shorter_but_cut])
    assert kept == [short.generation, other.generation]


def test_answer_tokens_count_as_spent(make_rollout: MakeRollout) -> None:
    wordy = make_rollout(0, think=(1,) * 3, answer=(5,) * 6)
    brief = make_rollout(0, think=(1,) * 5, answer=(5,) * 2)
    assert shortest_right([wordy, brief]) == [brief.generation]
    assert shortest_right([brief, wordy]) == [brief.generation]


def test_of_two_as_short_the_first_is_kept(make_rollout: MakeRollout) -> None:
    first, second = make_rollout(0, think=(1, 2)), make_rollout(0, think=(3, 4))
    assert shortest_right([first, second]) == [first.generation]
    assert shortest_right([]) == []


@pytest.mark.parametrize(("layer", "index"), [(None, 2), (0, 0), (1, 1)])
def test_a_gate_sits_where_it_is_asked_to_or_on_the_last_block(
    tiny_model: MetacogModel, layer: int | None, index: int
) -> None:
    shape = gate_shape(tiny_model, configured(layer=layer, site="mlp", strength=0.2))
    assert (shape.layer, shape.site, shape.strength, shape.switch) == (index, "mlp", 0.2, "learned")
    assert shape.hidden == 32
    assert tiny_model.reader is not None
    layer_of = tiny_model.reader.layer.shape
    assert shape.inputs == layer_of.proj_dim + layer_of.num_plans + 1
    FeedbackGate(shape)


@pytest.fixture
def training(
    make_tiny_model: Callable[..., MetacogModel], tiny_prompts: tuple[tuple[int, ...], ...]
) -> GateTraining:
    torch.manual_seed(0)
    model, config = make_tiny_model(), configured(switch="always")
    requests = [
        Request(id=i, prompt=p, budget=8, max_new_tokens=80, max_answer_tokens=6)
        for i, p in enumerate(tiny_prompts)
    ]
    replies = sorted(Engine(model).generate(requests), key=lambda reply: reply.request_id)
    return GateTraining(
        model,
        FeedbackGate(gate_shape(model, config)),
        config,
        train=replies,
        validation=replies,
    )


def test_only_the_gate_learns_and_the_loss_falls(training: GateTraining) -> None:
    model = training.model
    assert model.gate is not None
    assert model.reader is not None
    base = [p.clone() for p in model.base.model.parameters()]
    layer = [p.clone() for p in model.reader.layer.parameters()]
    start = float(training.evaluate()["eval/validation/loss_answer"])
    batches = training.batches(0)
    for _ in range(12):
        with training.step(next(batches)) as result:
            result.loss.backward()
        training.optimizers.step(1.0)
    assert float(training.evaluate()["eval/validation/loss_answer"]) < start
    assert float(model.gate.project.weight.detach().abs().max()) > 0
    for before, now in (
        (base, model.base.model.parameters()),
        (layer, model.reader.layer.parameters()),
    ):
        assert all(torch.equal(a, b) for a, b in zip(before, now, strict=True))


def test_each_step_says_what_the_gate_did(training: GateTraining) -> None:
    assert training.model.gate is not None
    with torch.no_grad():
        training.model.gate.project.weight.normal_(std=0.5)
    with training.step(next(training.batches(0))) as result:
        pass
    names = ("coverage", "norm", "saturation")
    found = {name: result.metrics[f"metacog/gate/{name}"] for name in names}
    assert found["coverage"] == 1.0, "it is always on"
    assert 0 < found["norm"] <= 0.5
    assert 0 <= found["saturation"] <= 1


def test_no_hook_stays_after_a_step(training: GateTraining) -> None:
    block = training.model.base.blocks[-1]
    with training.step(next(training.batches(0))) as result:
        assert len(block._forward_hooks) == 1
        result.loss.backward()
    assert len(block._forward_hooks) == 0


def test_batches_of_a_later_start_are_those_that_would_have_come(training: GateTraining) -> None:
    from_zero, later = training.batches(0), training.batches(3)
    before = [next(from_zero) for _ in range(6)]
    assert [next(later) for _ in range(3)] == before[3:]


def test_what_is_saved_is_the_gate_that_did_best_on_validation(
    training: GateTraining, tiny_directory: Path, tmp_path: Path
) -> None:
    assert training.model.gate is not None
    weight = training.model.gate.project.weight
    with torch.no_grad():
        training.evaluate()
        weight.normal_(std=9.0)
        losses = [training.evaluate()["eval/validation/loss_answer"] for _ in range(5)]
    assert training.is_finished
    training.save(tmp_path / "final")
    saved = load_model(tiny_directory, layer=tmp_path / "final")
    assert saved.gate is not None
    assert not bool(saved.gate.project.weight.any()), "it began as zero, which was better"
    assert bool(weight.any())
    again = GateTraining(
        saved,
        saved.gate,
        configured(),
        train=training._train,
        validation=training._validation,
    )
    assert again.evaluate()["eval/validation/loss_answer"] < losses[0]
