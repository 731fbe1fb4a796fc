"""T4: whatever happened to a file of a checkpoint, it is seen, named and never loaded."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from metacog.errors import CheckpointError, InputError
from metacog.model.bundle import load_model
from metacog.telemetry.manifest import MANIFEST_NAME, verified
from metacog.telemetry.rundir import RunDir
from metacog.train.resume import choose
from tests.faults.processes import Trainer

FILES = (
    "base_delta.safetensors",
    "calibration.json",
    "decoding.json",
    "ema.safetensors",
    MANIFEST_NAME,
    "metacog.json",
    "metacog.safetensors",
    "optimizer.safetensors",
    "state.json",
    "weights.safetensors",
)


def flip(file: Path, place: float) -> None:
    """Turn one bit of a file round, at a share of its length."""
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << 3
    file.write_bytes(content)


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a bit at the start": lambda file: flip(file, 0.0),
    "a bit in the middle": lambda file: flip(file, 0.5),
    "a bit at the end": lambda file: flip(file, 0.98),
    "the last byte gone": shorten,
    "nothing left in it": lambda file: file.write_bytes(b""),
    "removed": Path.unlink,
    "that of another step": lambda file: (
        shutil.copy(file.parents[1] / "checkpoint-10" / file.name, file) and None
    ),
}


@pytest.fixture
def damaged(undisturbed: Path, tmp_path: Path) -> RunDir:
    """A copy of a run, to be damaged."""
    shutil.copytree(undisturbed, tmp_path / "run")
    return RunDir(tmp_path / "run")


def test_the_files_are_all_that_a_checkpoint_has(undisturbed: Path) -> None:
    there = {path.name for path in (undisturbed / "checkpoint-20").iterdir()}
    assert there == set(FILES)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_the_checkpoint_before_it_is_taken(
    damaged: RunDir, name: str, damage: str
) -> None:
    checkpoint = damaged.checkpoint(20)
    before = (checkpoint / name).read_bytes()
    DAMAGES[damage](checkpoint / name)
    if damage == "that of another step" and (checkpoint / name).read_bytes() == before:
        assert name in {"calibration.json", "decoding.json"}, "they hold no step"
        return
    with pytest.raises(CheckpointError, match=name):
        verified(checkpoint)
    with pytest.raises(CheckpointError, match=rf"{name}.*newest is .*checkpoint-15"):
        choose(damaged, str(checkpoint))
    with pytest.raises(InputError):
        load_model(checkpoint)
    found = choose(damaged, "auto")
    assert found.step == 15
    assert any(name in notice for notice in found.notices)


def test_a_file_that_nobody_saved_is_seen(damaged: RunDir) -> None:
    (damaged.checkpoint(20) / "more.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"more\.safetensors is not in the manifest"):
        verified(damaged.checkpoint(20))


def test_a_checkpoint_under_the_name_of_another_is_seen(damaged: RunDir) -> None:
    shutil.rmtree(damaged.checkpoint(20))
    shutil.copytree(damaged.checkpoint(10), damaged.checkpoint(20))
    with pytest.raises(CheckpointError, match="step 10"):
        verified(damaged.checkpoint(20))


def test_the_command_line_refuses_a_damaged_one_and_goes_on_from_the_one_before(
    trainer: Trainer, recipe: Path, damaged: RunDir
) -> None:
    shutil.rmtree(damaged.final)
    flip(damaged.checkpoint(20) / "optimizer.safetensors", 0.5)
    code, said = trainer.run("train", str(recipe), "--resume", str(damaged.checkpoint(20)))
    assert code == 2
    assert "optimizer.safetensors" in said
    assert "checkpoint-15" in said
    code, said = trainer.run(
        "train", str(recipe), "--run-dir", str(damaged.path), "--resume", "auto"
    )
    assert code == 0, said
    assert "passed over checkpoint-20" in said
    assert "at step 15 of 20" in said
    assert "set aside checkpoint-20 as superseded/checkpoint-20-1" in said
    assert verified(damaged.checkpoint(20)).step == 20


def test_without_a_whole_checkpoint_nothing_is_begun_again_in_silence(damaged: RunDir) -> None:
    for checkpoint in damaged.checkpoints():
        shorten(checkpoint / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"checkpoint-20.*checkpoint-5.*another directory"):
        choose(damaged, "auto")
