"""`metacog train` from a recipe to a trained layer, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from metacog.config import RunConfig, digest, load
from metacog.model.bundle import load_model
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.train.run import train

COMMAND = """
import atexit, sys

@atexit.register
def tell():
    for name in ("torch", "textual"):
        print(name, "imported:", name in sys.modules, file=sys.stderr)

from metacog.cli.main import app
app(prog_name="metacog")
"""


def metacog(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def recipe(tmp_path: Path, tiny_directory: Path) -> Path:
    """A layer for a tiny local base, from a few questions of two families."""
    document = {
        "model": {"path": str(tiny_directory)},
        "data": {"tasks": ["chain_sum", "count_bits"], "num_prompts": 24},
        "metacog": {"proj_dim": 8, "budget_scale": "log"},
        "adaptation": {"enabled": False},
        "budget": {"min_tokens": 1, "max_tokens": 24, "answer_reserve": 8},
        "sampling": {"temperature": 0.9, "top_p": 1.0},
        "run": {
            "name": "tiny",
            "steps": 2,
            "batch": 8,
            "eval_interval": 2,
            "save_interval": 2,
            "warmup": 0,
            "objective": {"kind": "layer", "patience": 4},
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_end_to_end_config_load(recipe: Path, tiny_directory: Path, tmp_path: Path) -> None:
    overrides = ("run.steps=3", "losses.style_entropy=2e-2")
    run_dir = tmp_path / "runs" / "mine"
    settings = [part for override in overrides for part in ("--set", override)]
    result = metacog("train", "recipe.yaml", *settings, "--run-dir", str(run_dir), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(run_dir)
    assert "textual imported: False" in result.stderr

    wanted = load(recipe, overrides)
    assert (wanted.run.steps, wanted.losses.style_entropy) == (3, 0.02)
    assert load(run_dir / "config.yaml") == wanted
    provenance = json.loads((run_dir / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["config_digest"] == digest(wanted)
    assert "recipe.yaml" in provenance["argv"]
    assert provenance["seed"] == wanted.run.seed

    events = read_events(run_dir / "events.jsonl")
    config = [event.data for event in events if event.kind is EventKind.CONFIG]
    assert [RunConfig.model_validate(dict(data)) for data in config] == [wanted]
    metrics = [event for event in events if event.kind is EventKind.METRICS]
    assert metrics[-1].step == 3
    names = metrics[-1].data.keys()
    assert {"train/loss", "train/budget_mse", "train/grad_norm"} < names
    assert {"train/loss_confidence", "train/loss_ready", "train/loss_style"} < names
    evaluated = [event.step for event in events if event.kind is EventKind.EVAL]
    assert evaluated == [2, 3]
    saved = [str(event.data["path"]) for event in events if event.kind is EventKind.CHECKPOINT]
    assert saved == [str(run_dir / "checkpoint-2"), str(run_dir / "final")]

    assert (run_dir / "final" / "metacog.safetensors").is_file()
    assert (run_dir / "final" / "metacog.json").is_file()
    trained = load_model(tiny_directory, layer=run_dir / "final")
    assert trained.reader is not None
    assert trained.reader.layer.shape.proj_dim == 8
    assert trained.decoding.budget == wanted.budget
    assert trained.decoding.sampling == wanted.sampling


def test_the_configuration_that_was_given_stays_as_it_was(recipe: Path, tmp_path: Path) -> None:
    config = load(recipe, ("run.steps=1",))
    before, scale = config.model_dump_json(), config.plan.scale
    run = train(config, run_dir=tmp_path / "run")
    assert config.model_dump_json() == before
    assert config.plan.scale is scale
    assert run.load_config() == config
    assert (run.path / "final" / "metacog.json").is_file()


def test_an_unknown_key_is_bad_input_and_the_nearest_is_named(recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("eval_interval", "eval_intervall"), encoding="utf-8")
    result = metacog("train", "recipe.yaml", "--run-dir", "unmade", cwd=tmp_path)
    assert result.returncode == 2
    assert "run.eval_intervall" in result.stderr
    assert "Did you mean run.eval_interval?" in result.stderr
    assert "Traceback" not in result.stderr
    assert "torch imported: False" in result.stderr, "a recipe is read before torch is"
    assert result.stdout == ""
    assert not (tmp_path / "unmade").exists()
