"""T12: two processes, replicated or sharded, learn what one learns from the double batch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from metacog.errors import RunError
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.train.checkpoint import require_alike
from metacog.train.processes import Processes
from tests.conftest import MakeModel
from tests.faults.processes import Trainer, imitation, told, written

STRATEGIES = ("ddp", "fsdp2")


@pytest.fixture(scope="module")
def whole_directory(make_tiny_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base with a layer and a gate."""
    path = tmp_path_factory.mktemp("whole") / "model"
    make_tiny_model().save(path)
    return path


def configured(document: Mapping[str, Any], **run: object) -> dict[str, object]:
    """A recipe without noise of a process's own, so that only who does what differs."""
    return {
        "feedback": {"switch": "always"},
        **document,
        "run": {**document["run"], **run},
    }


def furthest(one: Path, other: Path) -> float:
    """The largest difference between tensors of the same names."""
    mine, theirs = load_file(one), load_file(other)
    assert mine.keys() == theirs.keys()
    return max(float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine)


def together(
    trainer: Trainer, document: Mapping[str, Any], strategy: str, tmp_path: Path
) -> tuple[Path, Path]:
    """Run a recipe on one process with the double batch, and on two; return both runs."""
    one, two = tmp_path / "one", tmp_path / "two"
    size = int(document["run"]["batch"])
    whole = written(configured(document, batch=2 * size), tmp_path / "one.yaml")
    half = written(configured(document, batch=size), tmp_path / "two.yaml")
    code, said = trainer.run("train", str(whole), "--run-dir", str(one))
    assert code == 0, said
    codes, said = trainer.run_together("train", str(half), "--run-dir", str(two), strategy=strategy)
    assert codes == [0, 0], said
    return one, two


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_twenty_steps_of_adapters_layer_and_gate_are_those_of_one_process(
    trainer: Trainer, tiny_directory: Path, tmp_path: Path, strategy: str
) -> None:
    document = imitation(tiny_directory)
    document["adaptation"] = {"enabled": True, "mode": "lora", "last_k": 2, "lora_rank": 4}
    one, two = together(trainer, document, strategy, tmp_path)
    for part in ("weights", "ema"):
        name = f"checkpoint-20/{part}.safetensors"
        assert furthest(one / name, two / name) < 1e-6
    assert {p.name for p in (one / "checkpoint-20").iterdir()} == {
        p.name for p in (two / "checkpoint-20").iterdir()
    }
    alone, both = dict(told(one)), dict(told(two))
    assert alone.keys() == both.keys()
    for step, figures in alone.items():
        assert both[step] == pytest.approx(figures, rel=1e-4, abs=1e-6, nan_ok=True)
    learned = load_file(two / "checkpoint-20" / "optimizer.safetensors")
    before = load_file(two / "checkpoint-5" / "weights.safetensors")
    after = load_file(two / "checkpoint-20" / "weights.safetensors")
    assert all(not torch.equal(before[name], after[name]) for name in after)
    assert {name.rsplit("/", 1)[0].partition("/")[2] for name in learned} == {
        name.partition("/")[2] for name in after
    }


def first_gradient(run: Path) -> Path:
    """AdamW's first moment after one step: a tenth of the gradient."""
    return run / "checkpoint-1" / "optimizer.safetensors"


ONE_STEP = {"steps": 1, "eval_interval": 100, "save_interval": 1, "grad_accum": 1, "ema": None}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_layer_gets_the_gradient_of_the_double_batch(
    trainer: Trainer, tiny_directory: Path, tmp_path: Path, strategy: str
) -> None:
    document = imitation(tiny_directory)
    document |= {"adaptation": {"enabled": False}, "feedback": {}}
    document["run"] = {**document["run"], **ONE_STEP, "batch": 4, "objective": {"kind": "layer"}}
    one, two = together(trainer, document, strategy, tmp_path)
    assert furthest(first_gradient(one), first_gradient(two)) < 1e-6
    kept = ("layer-train.safetensors", "index.json")
    assert all((two / "features" / name).is_file() for name in kept)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_practice_gets_the_gradient_of_the_double_batch(
    trainer: Trainer, whole_directory: Path, tmp_path: Path, strategy: str
) -> None:
    document = imitation(whole_directory)
    nothing = ("lambda_plan", "lambda_budget_reg", "lambda_confidence", "lambda_reread")
    document |= {
        "adaptation": {"enabled": True, "unfreeze_all": True},
        "feedback": {},
        "metacog": {"proj_dim": 8, "var_reg": 0.0},
        "losses": {**dict.fromkeys(nothing, 0.0), "style_entropy": 0.0},
        "run": {
            **document["run"],
            **ONE_STEP,
            "batch": 2,
            "objective": {"kind": "practice", "group_size": 4, "predicted": 1, "uncapped": 1},
        },
    }
    one, two = together(trainer, document, strategy, tmp_path)
    assert furthest(first_gradient(one), first_gradient(two)) < 1e-6
    (mine,), (theirs,) = (
        [e.data for e in read_events(run / "events.jsonl") if e.kind is EventKind.HIST]
        for run in (one, two)
    )
    assert mine["think_len"] == theirs["think_len"]
    assert json.dumps(mine["cap"]) == json.dumps(theirs["cap"])


def test_replicas_that_have_drifted_apart_are_not_saved() -> None:
    class Drifted(Processes):
        def gather(self, value: Any) -> list[Any]:
            return [value, value[::-1]]

    weights = {"layer/0": torch.ones(2)}
    with pytest.raises(RunError, match="process 1 differ"):
        require_alike(weights, Drifted(0, 2, "ddp"), 5)
    require_alike(weights, Processes(), 5)
