"""Checkpoints: saved at the very steps, whole or not at all, and a run that goes on from one is the same."""

import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from safetensors.torch import load_file

from metacog.config import RunConfig, parse
from metacog.errors import RunError
from metacog.telemetry.events import EventKind
from metacog.telemetry.manifest import verified
from metacog.telemetry.reader import read_events
from metacog.telemetry.rundir import RunDir
from metacog.train.run import train

INTERVAL, STEPS = 3, 8


@pytest.fixture
def config(tiny_directory: Path) -> RunConfig:
    """Eight steps from given traces on a tiny base, saved at every third."""
    document = {
        "model": {"path": str(tiny_directory)},
        "data": {"tasks": ["chain_sum", "count_bits"], "num_prompts": 24},
        "metacog": {"proj_dim": 8},
        "budget": {"min_tokens": 1, "max_tokens": 24, "answer_reserve": 8},
        "logging": {"sinks": ["jsonl"]},
        "run": {
            "steps": STEPS,
            "batch": 2,
            "grad_accum": 2,
            "save_interval": INTERVAL,
            "eval_interval": 4,
            "warmup": 0,
            "ema": 0.9,
            "objective": {"kind": "imitate", "cut_after": 2},
        },
    }
    return parse(document, source="test")


def contents(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_checkpoints_lie_in_the_run_at_exactly_the_interval(
    config: RunConfig, tmp_path: Path
) -> None:
    train(config, run_dir=tmp_path / "run")
    saved = sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*"))
    assert saved == ["checkpoint-3", "checkpoint-6"]
    events = read_events(tmp_path / "run" / "events.jsonl")
    told = [(e.step, e.data["path"]) for e in events if e.kind is EventKind.CHECKPOINT]
    assert told == [
        (3, str(tmp_path / "run" / "checkpoint-3")),
        (6, str(tmp_path / "run" / "checkpoint-6")),
        (8, str(tmp_path / "run" / "final")),
    ]
    assert all(Path(str(path)).is_absolute() for _, path in told)
    assert (tmp_path / "run" / "latest").read_text(encoding="utf-8") == "checkpoint-6\n"


def test_the_pytest_folder_itself_can_be_the_run(config: RunConfig, tmp_path: Path) -> None:
    tmp_path.rmdir()
    train(config, run_dir=tmp_path)
    assert (tmp_path / "checkpoint-3" / "manifest.json").is_file()
    assert (tmp_path / "checkpoint-6" / "manifest.json").is_file()
    assert not (tmp_path / "checkpoint-8").exists()


def test_a_checkpoint_says_what_it_holds_and_nothing_of_it_runs(
    config: RunConfig, tmp_path: Path
) -> None:
    run = train(config, run_dir=tmp_path / "run")
    manifest = verified(run.checkpoint(6))
    assert manifest.step == 6
    assert manifest.files == {
        name: digest
        for name, digest in contents(run.checkpoint(6)).items()
        if name != "manifest.json"
    }
    assert {Path(name).suffix for name in manifest.files} == {".json", ".safetensors"}
    assert [path.name for path in run.path.glob(".*")] == []


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    config: RunConfig, tmp_path: Path
) -> None:
    whole = train(config, run_dir=tmp_path / "whole")
    shutil.copytree(whole.path, tmp_path / "cut")
    cut = RunDir(tmp_path / "cut")
    shutil.rmtree(cut.final)
    shutil.rmtree(cut.checkpoint(6))
    said: list[str] = []
    train(config, run_dir=cut.path, resume="auto", narrate=said.append)
    for name in ("checkpoint-3", "checkpoint-6", "final"):
        assert contents(cut.path / name) == contents(whole.path / name), name
    (receipt,) = said
    assert f"resumed {cut.checkpoint(3)} at step 3 of 8" in receipt
    for part in (
        "weights: base (",
        "gate (",
        "layer (",
        "optimizer: base (",
        "ema: 0.9 after 3 steps",
    ):
        assert part in receipt
    assert "random numbers: torch" in receipt
    assert "data: behind batch 3" in receipt


def test_the_running_mean_is_what_is_saved_and_the_weights_are_what_goes_on(
    config: RunConfig, tmp_path: Path
) -> None:
    run = train(config, run_dir=tmp_path / "run")
    checkpoint = run.checkpoint(6)
    latest, mean = (load_file(checkpoint / f"{n}.safetensors") for n in ("weights", "ema"))
    saved = load_file(checkpoint / "metacog.safetensors")
    gate = [name for name in latest if name.startswith("weights/gate/")]
    place = len([name for name in latest if name.startswith("weights/layer/")])
    assert gate
    assert saved["gate.project.weight"].equal(mean[f"ema/{place}"])
    assert not saved["gate.project.weight"].equal(latest["weights/gate/0"])


def test_a_run_directory_is_never_overwritten(config: RunConfig, tmp_path: Path) -> None:
    run = train(config, run_dir=tmp_path / "run")
    before = contents(run.path)
    with pytest.raises(RunError, match="exists"):
        train(config, run_dir=tmp_path / "run")
    assert contents(run.path) == before
