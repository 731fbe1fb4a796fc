from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metacog.config import RunConfig, parse
from metacog.config.model import DEFAULT_PLANS
from metacog.config.objective import LayerObjective
from metacog.data.tasks.splits import Split, split_of
from metacog.errors import DataError
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.gate import FeedbackGate
from metacog.model.metacog import MetacogLayer
from metacog.telemetry import provenance
from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.reader import read_events
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.sinks import JsonlSink
from metacog.train.features import Features, question_key
from metacog.train.gate import gate_shape
from metacog.train.layer import layer_shape
from metacog.train.prepare import VALIDATION_FEATURES, prepare_layer, questions_of
from metacog.train.rollouts import collect_features
from metacog.train.run import train

EASY = {"tasks": ["count_bits", "leg_counting"], "num_prompts": 8}
"""Taking turns, eight questions are of the four lowest levels of each family."""
SHORT = {"min_tokens": 1, "max_tokens": 192, "answer_reserve": 16}
QUICK = {"steps": 2, "batch": 4, "warmup": 0, "eval_interval": 1}


def configured(objective: dict[str, object], **sections: object) -> RunConfig:
    document = {
        "model": {"path": "nano"},
        "metacog": {"proj_dim": 8},
        "adaptation": {"enabled": False},
        "data": EASY,
        "budget": SHORT,
        "logging": {"sinks": ["jsonl"]},
        "run": {**QUICK, "objective": objective},
        **sections,
    }
    return parse(document, source="test")


def saved_layer(base: str, path: Path) -> Path:
    """Save a layer with random weights for a base."""
    bare = MetacogModel(load_model(base).base)
    torch.manual_seed(7)
    layer = MetacogLayer(layer_shape(bare, configured({"kind": "layer"})))
    bare.with_layer(layer, plans=DEFAULT_PLANS).save_layer(path)
    return path


def gated_layer(base: str, path: Path) -> Path:
    """Save a layer with random weights and a gate that changes what is written."""
    model = load_model(base, layer=saved_layer(base, path.with_name("without-gate")))
    torch.manual_seed(3)
    gate = FeedbackGate(gate_shape(model, configured({"kind": "gate"})))
    torch.nn.init.normal_(gate.project.weight)
    replace(model, gate=gate).save_layer(path)
    return path


def with_decoding_of(config: RunConfig, model: MetacogModel) -> MetacogModel:
    update = {"budget": config.budget, "plan": config.plan, "sampling": config.sampling}
    return replace(model, decoding=model.decoding.model_copy(update=update))


def layer_weights(model: MetacogModel) -> dict[str, torch.Tensor]:
    assert model.reader is not None
    return model.reader.layer.state_dict()


def of_kind(events: list[Event], kind: EventKind) -> list[Event]:
    return [event for event in events if event.kind is kind]


def assert_ran_to_its_end(run: RunDir, events: list[Event]) -> None:
    assert events[0].kind is EventKind.CONFIG
    assert [event.step for event in of_kind(events, EventKind.EVAL)] == [1, 2]
    assert [event.step for event in of_kind(events, EventKind.METRICS)] == [2]
    (saved,) = of_kind(events, EventKind.CHECKPOINT)
    assert (saved.step, saved.data["path"]) == (2, str(run.path / "final"))
    assert (events[-1].kind, events[-1].step) == (EventKind.STATUS, 2)
    assert events[-1].data == {"message": "done", "path": str(run.path)}


def test_a_gate_run_learns_a_gate_and_leaves_the_layer_as_it_was(tmp_path: Path) -> None:
    given = saved_layer("nano", tmp_path / "layer")
    config = configured({"kind": "gate", "layer_path": str(given), "rollouts": 2})
    run = train(config, run_dir=tmp_path / "run")
    events = read_events(run.events)
    assert_ran_to_its_end(run, events)
    told = [str(event.data["message"]) for event in of_kind(events, EventKind.LOG)]
    assert [text.rpartition(",")[0] for text in told] == [
        "layer-train: rollouts of 8 of 8 prompts",
        "validation: rollouts of 1 of 1 prompts",
    ]
    values = of_kind(events, EventKind.METRICS)[0].data
    assert float(str(values["train/loss_answer"])) > 0
    assert "train/learning_rate/gate" in values
    assert "train/learning_rate/layer" not in values

    found, before = (load_model("nano", layer=path) for path in (run.path / "final", given))
    weights = layer_weights(found)
    assert weights.keys() == layer_weights(before).keys()
    assert all(torch.equal(value, weights[key]) for key, value in layer_weights(before).items())
    assert before.gate is None
    assert found.gate is not None
    assert found.gate.shape.layer == len(found.base.blocks) - 1
    assert bool((found.gate.project.weight != 0).any()), "a fresh gate's weights are zero"


@pytest.mark.parametrize("budgets", [False, True])
def test_a_reread_run_learns_re_readings_and_leaves_what_the_gate_listens_to(
    tmp_path: Path, budgets: bool
) -> None:
    given = gated_layer("nano", tmp_path / "given")
    config = configured({"kind": "reread", "layer_path": str(given), "budgets": budgets})
    run = train(config, run_dir=tmp_path / "run")
    events = read_events(run.events)
    assert_ran_to_its_end(run, events)
    values = of_kind(events, EventKind.METRICS)[0].data
    assert float(str(values["train/loss"])) > 0

    found, before = (load_model("nano", layer=path) for path in (run.path / "final", given))
    weights = layer_weights(found)
    moved = {k for k, v in layer_weights(before).items() if not torch.equal(v, weights[k])}
    at_the_prompt = {"heads.budget", "experts.budget"} if budgets else set()
    parts = {name.rpartition(".")[0] for name in moved if not name.startswith("reread_")}
    assert parts == at_the_prompt
    assert {"reread_heads", "reread_experts"} <= {name.partition(".")[0] for name in moved}
    for head in ("needed", "ready", "gain"):
        assert any(name.startswith(f"reread_heads.{head}.") for name in moved)
    assert found.gate is not None
    assert before.gate is not None
    assert torch.equal(found.gate.project.weight, before.gate.project.weight)

    kept = Features.load(run.path / VALIDATION_FEATURES)
    questions = questions_of(config, Split.VALIDATION)
    here, bare = (
        collect_features(model, questions, seed=0, every_token=True)
        for model in (with_decoding_of(config, m) for m in (before, replace(before, gate=None)))
    )
    assert torch.equal(kept.used, here.used)
    assert torch.allclose(kept.point_states, here.point_states, atol=1e-2)
    assert kept.used.tolist() != bare.used.tolist(), "the gate was not in place"


def test_an_imitation_run_learns_layer_and_gate_without_a_rollout(tmp_path: Path) -> None:
    config = configured({"kind": "imitate", "cut_after": 1})
    run = train(config, run_dir=tmp_path / "run")
    events = read_events(run.events)
    assert_ran_to_its_end(run, events)
    assert of_kind(events, EventKind.LOG) == [], "no rollout is told of"
    values = of_kind(events, EventKind.METRICS)[0].data
    assert 0 < float(str(values["think_tokens_used"])) <= SHORT["max_tokens"]
    for name in ("loss_answer", "loss_plan", "loss_budget", "budget_mse", "grad_norm"):
        assert float(str(values[f"train/{name}"])) > 0
    assert {"train/learning_rate/layer", "train/learning_rate/gate"} < values.keys()
    assert "train/loss_confidence" not in values

    found = load_model("nano", layer=run.path / "final")
    assert found.gate is not None
    assert bool((found.gate.project.weight != 0).any())
    torch.manual_seed(config.run.seed)
    fresh = MetacogLayer(layer_shape(found, config)).state_dict()
    weights = layer_weights(found)
    assert weights.keys() == fresh.keys()
    moved = {key for key, value in fresh.items() if not torch.equal(value, weights[key])}
    assert any(key.startswith("heads.") for key in moved)
    unread = {"revise": False, "reread": "none"}
    assert found.decoding.budget.model_dump() == config.budget.model_dump() | unread


def test_without_feedback_an_imitation_run_learns_a_layer_alone(
    tiny_directory: Path, tmp_path: Path
) -> None:
    sections = {"model": {"path": str(tiny_directory)}, "feedback": {"enabled": False}}
    run = train(configured({"kind": "imitate"}, **sections), run_dir=tmp_path / "run")
    assert_ran_to_its_end(run, read_events(run.events))
    found = load_model(tiny_directory, layer=run.path / "final")
    assert found.reader is not None
    assert found.gate is None


def test_a_base_that_is_never_right_gives_a_gate_nothing_to_learn_from(
    tiny_directory: Path, tmp_path: Path
) -> None:
    given = saved_layer(str(tiny_directory), tmp_path / "layer")
    config = configured(
        {"kind": "gate", "layer_path": str(given), "rollouts": 1},
        model={"path": str(tiny_directory)},
        data={"tasks": ["prime_factorization"], "num_prompts": 4},
    )
    with pytest.raises(DataError, match=r"layer-train split.*data\.num_prompts.*data\.tasks"):
        train(config, run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "final").exists()


@pytest.mark.parametrize(
    ("count", "split", "wanted"),
    [
        (120, Split.LAYER_TRAIN, 120),
        (120, Split.VALIDATION, 12),
        (19, Split.VALIDATION, 1),
        (3, Split.VALIDATION, 1),
    ],
)
def test_a_tenth_of_the_questions_validates_and_at_least_one(
    count: int, split: Split, wanted: int
) -> None:
    data = {"tasks": ["chain_sum", "gcd"], "num_prompts": count}
    questions = questions_of(configured({"kind": "layer"}, data=data), split)
    assert len({question.id for question in questions}) == wanted
    assert {split_of(question.text) for question in questions} == {split}
    families = Counter(question.family for question in questions)
    assert families["chain_sum"] - families["gcd"] in (0, 1)


def test_plans_are_tried_on_the_first_prompts_alone(tmp_path: Path) -> None:
    config = configured({"kind": "layer", "plan_prompts": 6})
    objective = config.run.objective
    assert isinstance(objective, LayerObjective)
    origin = provenance.collect(seed=0, config_digest="")
    run = RunDir.create(tmp_path / "run", config=config, provenance=origin)
    recorder = Recorder("test", JsonlSink(run.events))
    training = prepare_layer(config, objective, load_model("nano"), run, recorder)
    recorder.close()
    questions = questions_of(config, Split.LAYER_TRAIN)
    tried = {question_key(question) for question in questions[:6]}
    found = training._train
    labelled = set(found.question[found.plan >= 0].tolist())
    assert labelled
    assert labelled <= tried
    told = [str(e.data["message"]) for e in of_kind(read_events(run.events), EventKind.LOG)]
    assert [text.rpartition(",")[0] for text in told] == [
        "layer-train: rollouts of 8 of 8 prompts",
        *["layer-train: plans of 6 of 6 prompts"] * 4,
        "validation: rollouts of 1 of 1 prompts",
        *["validation: plans of 1 of 1 prompts"] * 4,
    ]
    assert Features.load(run.path / VALIDATION_FEATURES).plan.shape == (1,)
    labels = load_file(run.path / "features" / "layer-train-labels.safetensors")
    assert torch.equal(labels["plan"], found.plan)
    assert sorted(labels["question"].tolist()) == sorted(map(question_key, questions))
