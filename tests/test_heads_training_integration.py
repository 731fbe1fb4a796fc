"""The layer's heads and experts learn from features of a real base's own rollouts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, pvariance

import pytest
import torch

from metacog.config import RunConfig, parse
from metacog.config.decoding import BudgetConfig, DecodingConfig
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.splits import Split
from metacog.decode.collect import roll_out
from metacog.decode.engine import Engine
from metacog.decode.opening import NO_LIMIT
from metacog.decode.settings import engine_settings, request_for
from metacog.losses.combine import LossName
from metacog.losses.style import style_loss
from metacog.losses.variance import variance_loss
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.metacog import MetacogLayer
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.sinks import JsonlSink
from metacog.text.render import render
from metacog.train.features import Features, extract, joined
from metacog.train.layer import LayerTraining, layer_shape
from metacog.train.loop import fit

NUM_LAYERS, NUM_PLANS = 3, 4
SHORT, LONG = 3.0, 18.0
EASY = tuple(FAMILIES).index("chain_sum")
LOGGED = ("budget", "confidence", "needed", "ready", "gain", "variance", "style")
"""Losses that have labels here; no plan was tried, so `plan` has none."""


def configured(**sections: object) -> RunConfig:
    return parse(
        {
            "metacog": {"proj_dim": 8},
            "budget": {"min_tokens": 1, "max_tokens": 24, "answer_reserve": 8},
            "run": {
                "steps": 60,
                "batch": 16,
                "learning_rate": 0.01,
                "warmup": 0,
                "decay": 0.5,
                "eval_interval": 20,
            },
            **sections,
        },
        source="test",
    )


def features_of(model: MetacogModel, split: Split, count: int) -> Features:
    """Let the base answer real questions and take the features of what it did."""
    questions = draw_questions(split, count, seed=0, families=("chain_sum", "count_bits"))
    requests = []
    for index, question in enumerate(questions):
        prompt = render(model.base.tokenizer, [{"role": "user", "content": question.text}])
        requests.append(request_for(model, tuple(prompt), request_id=index, budget=NO_LIMIT))
    engine = Engine(model, engine_settings(model, revise=False))
    rollouts = roll_out(engine.generate, model.base, dict(enumerate(questions)), requests)
    return joined(list(extract(model, rollouts, temperature=1.0)))


def with_learnable_labels(features: Features) -> Features:
    """Label rows by their family, which the states tell: a random base is hardly ever right."""
    easy = features.family == EASY
    need = torch.where(easy, SHORT, LONG)
    return replace(
        features,
        need=need,
        needed=(need[features.prompt] - features.used).clamp(min=0),
        ready=(features.used >= need[features.prompt]).float(),
        hope=easy[features.prompt].float(),
    )


@dataclass(frozen=True)
class Data:
    """A frozen base and the features of its rollouts, as extracted and with learnable labels."""

    model: MetacogModel
    extracted: Features
    train: Features
    validation: Features


@pytest.fixture(scope="module")
def data(tiny_base_model: MetacogModel) -> Data:
    budget = BudgetConfig(min_tokens=1, max_tokens=24, answer_reserve=8)
    model = replace(tiny_base_model, decoding=DecodingConfig(budget=budget))
    train = features_of(model, Split.LAYER_TRAIN, 40)
    validation = features_of(model, Split.VALIDATION, 12)
    return Data(model, train, with_learnable_labels(train), with_learnable_labels(validation))


def training_of(data: Data, config: RunConfig) -> LayerTraining:
    torch.manual_seed(0)
    return LayerTraining(
        MetacogLayer(layer_shape(data.model, config)),
        data.model,
        config,
        train=data.train,
        validation=data.validation,
        patience=100,
    )


def metrics_of(training: LayerTraining) -> dict[str, float]:
    with training.step(next(training.batches(0))) as result:
        return dict(result.metrics)


def test_features_come_from_the_bases_own_rollouts(data: Data) -> None:
    features = data.extracted
    assert features.prompt_states.shape == (40, NUM_LAYERS, 32)
    assert features.point_states.shape == (len(features.prompt), NUM_LAYERS, 32)
    assert len(set(features.question.tolist())) == 40
    assert len(set(features.natural.tolist())) > 1, "every rollout thought for as long"
    assert bool((features.used <= features.natural[features.prompt]).all())
    assert len(set(features.family.tolist())) == 2


def test_per_layer_is_full_where_the_layer_learns(data: Data) -> None:
    training = training_of(data, configured())
    rows = len(data.train.need)
    out = training.layer.read(data.train.prompt_states.float())
    shapes = {name: tuple(value.shape) for name, value in out.per_layer.items()}
    assert shapes == {
        "plan_logits_pl": (rows, NUM_LAYERS, NUM_PLANS),
        "budget_raw_pl": (rows, NUM_LAYERS, 1),
        "conf_raw_pl": (rows, NUM_LAYERS, 1),
        "alpha": (rows, NUM_LAYERS),
    }
    again = training.layer.reread(data.train.point_states.float(), data.train.used)
    assert {"needed_pl", "ready_raw_pl", "gain_raw_pl", "alpha"} <= again.per_layer.keys()
    for per_layer in (out.per_layer, again.per_layer):
        assert all(bool(value.isfinite().all()) for value in per_layer.values())
        assert torch.allclose(per_layer["alpha"].sum(1), torch.tensor(1.0), atol=1e-5)


def test_every_loss_is_logged_and_the_budget_error_counts(data: Data) -> None:
    config = configured()
    assert config.losses.lambda_budget_reg > 0
    training = training_of(data, config)
    metrics = metrics_of(training)
    assert {f"train/loss_{name}" for name in LOGGED} < metrics.keys()
    assert f"train/loss_{LossName.PLAN}" not in metrics
    assert metrics["train/budget_mse"] > 0

    batch = next(training.batches(0))
    features = data.train
    caps = features.used[batch.caps]
    out = training.layer.read(features.prompt_states[batch.prompts].float(), caps)
    error = (out.budget.detach() - features.natural[batch.prompts]) / 24
    assert metrics["train/budget_mse"] == pytest.approx(float(error.square().mean()), rel=1e-5)


def test_a_step_tells_what_was_used_and_how_the_blocks_differ(data: Data) -> None:
    training = training_of(data, configured())
    metrics = metrics_of(training)
    batch = next(training.batches(0))
    natural = [float(data.train.natural[row]) for row in batch.prompts]
    assert metrics["think_tokens_used"] == pytest.approx(sum(natural) / len(natural))

    states = data.train.prompt_states[batch.prompts].float()
    out = training.layer.read(states, data.train.used[batch.caps])
    alphas = out.alpha.tolist()
    entropies = [-sum(weight * math.log(weight) for weight in row) for row in alphas]
    assert metrics["metacog/alpha/min"] == pytest.approx(mean(map(min, alphas)))
    assert metrics["metacog/alpha/mean"] == pytest.approx(1 / NUM_LAYERS)
    assert metrics["metacog/alpha/max"] == pytest.approx(mean(map(max, alphas)))
    assert metrics["metacog/alpha/entropy"] == pytest.approx(sum(entropies) / len(entropies))

    agreeing, variances = [], []
    tokens = training.layer.scale.tokens(out.per_layer["budget_raw_pl"]).squeeze(-1).tolist()
    for row, budgets in enumerate(tokens):
        choices = out.per_layer["plan_logits_pl"][row].argmax(1).tolist()
        chosen = int(out.plan_logits[row].argmax())
        agreeing.append(choices.count(chosen) / NUM_LAYERS)
        variances.append(pvariance(budgets))
    assert 0 < metrics["metacog/plan_agreement"] < 1
    assert metrics["metacog/plan_agreement"] == pytest.approx(sum(agreeing) / len(agreeing))
    assert metrics["metacog/budget_variance"] == pytest.approx(
        sum(variances) / len(variances), rel=1e-4
    )
    assert metrics["metacog/budget_variance"] > 0


def test_the_plain_budget_target_of_the_requirements_is_that_error(data: Data) -> None:
    config = configured(
        losses={"budget_target": "used"}, metacog={"proj_dim": 8, "per_layer_weight": 0}
    )
    metrics = metrics_of(training_of(data, config))
    assert metrics["train/loss_budget"] == pytest.approx(metrics["train/budget_mse"], rel=1e-5)


def test_a_missing_label_is_missing_and_never_a_zero(data: Data) -> None:
    unlabelled = torch.full_like(data.train.need, torch.nan)
    features = replace(
        data.train,
        need=unlabelled,
        needed=unlabelled[data.train.prompt],
        hope=unlabelled[data.train.prompt],
    )
    metrics = metrics_of(training_of(replace(data, train=features), configured()))
    assert not {f"train/loss_{name}" for name in ("budget", "needed", "gain")} & metrics.keys()
    assert "train/needed_mae" not in metrics
    assert metrics["train/budget_mse"] > 0
    assert metrics["train/loss_ready"] > 0


@pytest.mark.parametrize("section", ["var_reg", "style_entropy"])
def test_a_positive_weight_refuses_an_empty_per_layer(data: Data, section: str) -> None:
    layer = training_of(data, configured()).layer
    out = layer.read(data.train.prompt_states[:4].float(), telemetry=False)
    assert out.per_layer == {}

    def report(weight: float) -> object:
        if section == "var_reg":
            return variance_loss(out.per_layer, out.budget_raw, var_reg=weight)
        return style_loss(out.plan_logits, out.per_layer, style_entropy=weight)

    with pytest.raises(ValueError, match=section):
        report(1e-4)
    report(0.0)


def test_the_loop_trains_experts_and_heads_until_validation_falls(
    data: Data, tmp_path: Path
) -> None:
    config = configured()
    training = training_of(data, config)
    base = {name: value.clone() for name, value in data.model.base.model.state_dict().items()}
    before = {name: value.clone() for name, value in training.layer.state_dict().items()}
    first = training.evaluate()["eval/validation/loss"]
    recorder = Recorder("heads", JsonlSink(tmp_path / "events.jsonl"))
    steps = fit(training, config.run, run=RunDir(tmp_path), recorder=recorder)
    recorder.close()
    assert steps == config.run.steps

    after = training.layer.state_dict()
    for name in ("experts.", "reread_experts.", "heads.", "reread_heads.", "trunk."):
        names = [key for key in before if key.startswith(name)]
        assert names
        assert [key for key in names if torch.equal(before[key], after[key])] == []
    untouched = data.model.base.model.state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in base.items())

    events = read_events(tmp_path / "events.jsonl")
    logged: list[Mapping[str, object]] = [e.data for e in events if e.kind is EventKind.METRICS]
    assert len(logged) == steps // 10
    for values in logged:
        assert {f"train/loss_{name}" for name in LOGGED} < values.keys()
        assert float(str(values["train/budget_mse"])) > 0
        assert float(str(values["train/grad_norm"])) > 0
    losses = [
        float(str(e.data["eval/validation/loss"])) for e in events if e.kind is EventKind.EVAL
    ]
    assert len(losses) == 3
    assert losses[-1] < 0.75 * first

    budget = training.layer.read(data.validation.prompt_states.float()).budget.detach()
    easy = data.validation.family == EASY
    assert float(budget[easy].mean()) + 5 < float(budget[~easy].mean())


def test_what_was_learned_is_what_is_loaded(
    data: Data, tiny_directory: Path, tmp_path: Path
) -> None:
    config = configured()
    training = training_of(data, config)
    training.evaluate()
    training.save(tmp_path / "final")
    loaded = load_model(tiny_directory, layer=tmp_path / "final")
    assert loaded.reader is not None
    assert loaded.reader.plans == config.metacog.plans
    states = data.train.prompt_states[:3].float()
    assert torch.equal(loaded.reader.layer.read(states).budget, training.layer.read(states).budget)


def test_what_is_saved_is_the_layer_that_did_best_on_validation(
    data: Data, tiny_directory: Path, tmp_path: Path
) -> None:
    training = training_of(data, configured())
    states = data.train.prompt_states[:3].float()
    training.evaluate()
    best = training.layer.read(states).budget
    with torch.no_grad():
        for parameter in training.layer.parameters():
            parameter.normal_(std=9.0)
    training.evaluate()
    training.save(tmp_path / "final")
    loaded = load_model(tiny_directory, layer=tmp_path / "final")
    assert loaded.reader is not None
    assert torch.equal(loaded.reader.layer.read(states).budget, best)
    assert not torch.equal(training.layer.read(states).budget, best)
