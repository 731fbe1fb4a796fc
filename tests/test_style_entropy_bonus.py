"""The bonus for entropy in the plans: it reaches the global heads and every expert, in a real step."""

from pathlib import Path

import pytest
import torch

from metacog.config import RunConfig, parse
from metacog.config.objective import ImitateObjective
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.losses.style import entropy, style_loss
from metacog.model.adapt import Adapted
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.metacog import MetacogLayer
from metacog.train.imitate import Imitation
from metacog.train.layer import layer_shape
from metacog.train.prepare import VALIDATION_FEATURES
from metacog.train.run import train
from metacog.train.traces import SolvedTraces

STEPS = 20


def configured(weight: float, **objective: object) -> RunConfig:
    return parse(
        {
            "model": {"path": "nano"},
            "metacog": {"proj_dim": 16},
            "adaptation": {"enabled": False},
            "data": {"tasks": ["count_bits"], "num_prompts": 20},
            "losses": {
                "style_entropy": weight,
                "lambda_plan": 0.0,
                "lambda_budget_reg": 0.0,
                "answer": 0.0,
            },
            "run": {"batch": 4, "learning_rate": 0.002, "warmup": 0, "objective": objective},
        },
        source="test",
    )


def imitation(weight: float) -> Imitation:
    config = configured(weight, kind="imitate")
    assert isinstance(config.run.objective, ImitateObjective)
    bare = load_model("nano")
    torch.manual_seed(3)
    layer = MetacogLayer(layer_shape(bare, config))
    with torch.no_grad():
        layer.heads.plan.weight.normal_(std=3.0)
        layer.experts.plan.weight.normal_(std=1.0)
    model = MetacogModel(bare.base, decoding=bare.decoding).with_layer(
        layer, plans=config.metacog.plans
    )
    questions = draw_questions(Split.LAYER_TRAIN, 8, families=["count_bits"])
    return Imitation(
        model,
        None,
        Adapted(),
        config,
        config.run.objective,
        SolvedTraces(bare.base, train=questions, validation=questions, size=4, seed=0),
    )


def entropies(training: Imitation, steps: int) -> tuple[list[float], list[float]]:
    """Return the plans' entropies at every step of a training, of global heads and of experts."""
    own, experts = [], []
    batches = training.batches(0)
    for _ in range(steps):
        (part,) = training.parts(next(batches))
        with training.step(part) as result:
            result.loss.backward()
        training.optimizers.step(1.0)
        own.append(result.metrics["train/plan_entropy"])
        experts.append(result.metrics["train/plan_entropy_per_layer"])
    return own, experts


def test_the_bonus_raises_the_entropy_of_global_and_per_layer_plans() -> None:
    with_bonus, without = (entropies(imitation(weight), STEPS) for weight in (1.0, 0.0))
    for raised, left in zip(with_bonus, without, strict=True):
        assert raised[-1] > raised[0] + 0.05
        assert raised[-1] > left[-1] + 0.05


def test_the_loss_is_minus_the_mean_entropy_in_nats() -> None:
    training = imitation(1.0)
    (part,) = training.parts(next(training.batches(0)))
    with training.step(part) as result:
        pass
    metrics = result.metrics
    both = metrics["train/plan_entropy"] + metrics["train/plan_entropy_per_layer"]
    assert metrics["train/loss_style"] == pytest.approx(-both, rel=1e-5)


def test_per_layer_plans_are_there_and_a_bonus_without_them_is_refused() -> None:
    layer = imitation(1.0).layer
    states = torch.randn(3, layer.shape.num_layers, layer.shape.hidden)
    full, bare = layer.read(states), layer.read(states, telemetry=False)
    assert full.per_layer["plan_logits_pl"].shape == (3, layer.shape.num_layers, 4)
    wanted = entropy(full.plan_logits) + entropy(full.per_layer["plan_logits_pl"]).mean(-1)
    report = style_loss(full.plan_logits, full.per_layer, style_entropy=0.1)
    torch.testing.assert_close(report.total, -wanted.sum())
    assert bare.per_layer == {}
    with pytest.raises(ValueError, match="style_entropy"):
        style_loss(bare.plan_logits, bare.per_layer, style_entropy=0.1)
    assert style_loss(bare.plan_logits, bare.per_layer, style_entropy=0.0).count.item() == 0


def test_a_whole_run_logs_the_bonus(tmp_path: Path) -> None:
    config = configured(0.01, kind="layer")
    small = config.model_copy(
        update={"run": config.run.model_copy(update={"steps": 2, "eval_interval": 1})}
    )
    run = train(small, run_dir=tmp_path / "run")
    text = run.events.read_text(encoding="utf-8")
    assert "train/loss_style" in text
    assert "train/plan_entropy_per_layer" in text
    assert (run.path / VALIDATION_FEATURES).is_file()
