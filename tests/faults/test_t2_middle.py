"""T2: a run goes on in the middle: of accumulated steps, of a set of rollouts, of early stopping."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metacog.config import RunConfig, parse
from metacog.config.model import DEFAULT_PLANS
from metacog.model.bundle import load_model
from metacog.model.metacog import MetacogLayer
from metacog.telemetry.rundir import RunDir
from metacog.train.layer import layer_shape
from metacog.train.run import train
from tests.conftest import MakeModel
from tests.faults.processes import contents, imitation, told

STEPS = 4


@pytest.fixture(scope="module")
def given(make_tiny_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer and a gate to go on from."""
    path = tmp_path_factory.mktemp("given")
    make_tiny_model().save_layer(path)
    return path


def document(base: Path, layer: Path, kind: str) -> Mapping[str, Any]:
    """A recipe that saves after every step."""
    found = imitation(base)
    objectives: dict[str, dict[str, object]] = {
        "practice": {"updates": 2, "group_size": 3, "replay": 2, "layer_path": str(layer)},
        "layer": {"plan_prompts": 4, "patience": 3},
        "reread": {"layer_path": str(layer), "patience": 2},
        "imitate": {"cut_after": 1},
    }
    accumulates = kind in {"imitate", "practice"}
    run = {
        "steps": STEPS,
        "batch": 2,
        "grad_accum": 2 if accumulates else 1,
        "eval_interval": 2,
        "save_interval": 1,
        "warmup": 0,
        "ema": 0.8,
        "objective": {"kind": kind, **objectives[kind]},
    }
    lora = {"enabled": True, "mode": "lora", "last_k": 2, "lora_rank": 2}
    none = {"enabled": False}
    adapted = {"practice": lora, "imitate": found["adaptation"]}.get(kind, none)
    return {**found, "run": run, "adaptation": adapted}


def back_to(run: RunDir, step: int, path: Path) -> RunDir:
    """Return a copy of a run as a process leaves it that is killed some time after a step."""
    shutil.copytree(run.path, path)
    there = RunDir(path)
    for directory in there.checkpoints():
        if int(directory.name.rpartition("-")[2]) > step:
            shutil.rmtree(directory)
    shutil.rmtree(there.final)
    return there


def assert_the_same_from_any_step(config: RunConfig, directory: Path) -> None:
    """Go on from every step of a run and compare every file and figure with the whole run's."""
    whole = train(config, run_dir=directory / "whole")
    names = (*(f"checkpoint-{n}" for n in range(1, STEPS + 1)), "final", "features")
    wanted = {name: contents(whole.path / name) for name in names}
    for step in range(1, STEPS):
        there = back_to(whole, step, directory / f"from-{step}")
        again = train(config, run_dir=there.path, resume="auto")
        assert told(again.path) == told(whole.path), step
        for name in names:
            assert contents(again.path / name) == wanted[name], f"{name} after step {step}"


@pytest.mark.parametrize("kind", ["imitate", "layer", "reread", "practice"])
def test_going_on_from_any_step_ends_in_the_same_files(
    tiny_directory: Path, given: Path, tmp_path: Path, kind: str
) -> None:
    config = parse(document(tiny_directory, given, kind), source="test")
    assert_the_same_from_any_step(config, tmp_path)


def test_a_gate_goes_on_with_the_replies_it_learns_from(tmp_path: Path) -> None:
    bare = load_model("nano")
    layer = MetacogLayer(layer_shape(bare, RunConfig()))
    bare.with_layer(layer, plans=DEFAULT_PLANS).save_layer(tmp_path / "layer")
    found = document(Path("nano"), tmp_path / "layer", "reread")
    objective = {"kind": "gate", "rollouts": 2, "layer_path": str(tmp_path / "layer")}
    changed = {
        "run": {**found["run"], "objective": objective},
        "data": {"tasks": ["count_bits", "leg_counting"], "num_prompts": 8},
        "metacog": {},
        "budget": {"min_tokens": 1, "max_tokens": 192, "answer_reserve": 16},
    }
    assert_the_same_from_any_step(parse({**found, **changed}, source="test"), tmp_path)


def test_a_base_goes_on_in_its_second_stage(tmp_path: Path) -> None:
    objective = {
        "kind": "pretrain",
        "hidden_size": 32,
        "num_blocks": 2,
        "num_heads": 2,
        "mlp_size": 48,
        "batch_tokens": 1024,
        "chunk": 200,
        "vocabulary_questions": 10,
        "compiled": False,
        "stages": [{"from_step": 0}, {"from_step": 2}],
    }
    found = document(Path("nano"), tmp_path, "reread")
    run = {**found["run"], "objective": objective}
    run["batch"] = 8
    config = parse({"logging": found["logging"], "run": run}, source="test")
    assert_the_same_from_any_step(config, tmp_path)
    model = load_model(tmp_path / "whole" / "checkpoint-2")
    assert model.base.model.config.hidden_size == 32


@pytest.mark.parametrize("kind", ["imitate", "practice"])
def test_a_checkpoint_of_an_adapted_base_is_the_model_of_that_step(
    tiny_directory: Path, given: Path, tmp_path: Path, kind: str
) -> None:
    config = parse(document(tiny_directory, given, kind), source="test")
    run = train(config, run_dir=tmp_path / "run")
    saved, ended = load_model(run.checkpoint(STEPS)), load_model(run.path)
    assert saved.base.digest != load_model(tiny_directory).base.digest
    wanted, got = ended.base.model.state_dict(), saved.base.model.state_dict()
    assert wanted.keys() == got.keys()
    for name, tensor in wanted.items():
        assert tensor.allclose(got[name], atol=1e-6), name
    assert saved.reader is not None
    saved.save(tmp_path / "plain")
    plain = load_model(tmp_path / "plain")
    assert plain.base.model.state_dict().keys() == wanted.keys()
    assert plain.reader is not None


def test_what_was_collected_is_not_collected_again(
    tiny_directory: Path, given: Path, tmp_path: Path
) -> None:
    config = parse(document(tiny_directory, given, "layer"), source="test")
    whole = train(config, run_dir=tmp_path / "whole")
    there = back_to(whole, 2, tmp_path / "again")
    stamps = {p.name: p.stat().st_mtime_ns for p in there.features.glob("*.safetensors")}
    train(config, run_dir=there.path, resume="auto")
    kept = ("layer-train.safetensors", "validation.safetensors")
    assert {n: (there.features / n).stat().st_mtime_ns for n in kept} == {
        n: stamps[n] for n in kept
    }
