"""F1: a pickle in a model directory never runs, whatever it is called and whatever else is there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from metacog.errors import CheckpointError, ModelError
from metacog.model.base import load_base
from metacog.model.bundle import MetacogModel, load_model
from metacog.telemetry.rundir import RunDir
from metacog.train.resume import choose
from tests.faults.hostile import WEIGHTS, canary_pickle, copied

NAMES = (
    "pytorch_model.bin",
    "model.pt",
    "model.pkl",
    "rng_state.pth",
    "training_args.bin",
    "optimizer.pt",
    "custom_checkpoint_0.pkl",
    ".metadata",
)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Exists only once a pickle has run."""
    return tmp_path / "canary"


@pytest.fixture
def hostile(tiny_directory: Path, tmp_path: Path, canary: Path) -> Path:
    """A whole model with pickles under every usual name beside its weights."""
    directory = copied(tiny_directory, tmp_path)
    for name in NAMES:
        (directory / name).write_bytes(canary_pickle(canary))
    return directory


def test_the_canary_runs_where_a_pickle_is_read(tmp_path: Path, canary: Path) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(canary_pickle(canary))
    read = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", read, file], check=True)
    assert canary.exists()


def test_pickles_beside_the_weights_are_left_alone(hostile: Path, canary: Path) -> None:
    load_model(hostile)
    assert not canary.exists()


def test_pickles_instead_of_the_weights_are_refused(hostile: Path, canary: Path) -> None:
    (hostile / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"with .*model\.pkl, .*pytorch_model\.bin.* never read"):
        load_model(hostile)
    assert not canary.exists()


def test_there_is_no_way_back_to_a_pickle(hostile: Path, canary: Path) -> None:
    """Other tensors in the directory must not make the pickle the model's weights."""
    (hostile / WEIGHTS).rename(hostile / "other.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "pytorch_model.bin"}}
    (hostile / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelError, match=r"found neither"):
        load_base(hostile)
    (hostile / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelError, match=r"weight_map in .* names \*\.safetensors files beside it"):
        load_base(hostile)
    assert not canary.exists()


def test_a_pickle_that_is_called_safetensors(hostile: Path, canary: Path) -> None:
    (hostile / WEIGHTS).write_bytes(canary_pickle(canary))
    with pytest.raises(ModelError, match=r"Wanted tensors in .*model\.safetensors"):
        load_base(hostile)
    assert not canary.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_in_a_checkpoint_is_refused_unread(
    undisturbed: Path, tmp_path: Path, canary: Path, name: str
) -> None:
    run = RunDir(shutil.copytree(undisturbed, tmp_path / "run"))
    (run.checkpoint(20) / name).write_bytes(canary_pickle(canary))
    with pytest.raises(CheckpointError, match=rf"{name} is not in the manifest"):
        choose(run, str(run.checkpoint(20)))
    assert choose(run, "auto").step == 15
    assert not canary.exists()


def test_what_a_run_writes_is_tensors_and_text(undisturbed: Path) -> None:
    files = [path for path in undisturbed.rglob("*") if path.is_file()]
    checkpoints = {p.suffix for p in files if p.is_relative_to(undisturbed / "checkpoint-20")}
    assert checkpoints == {".json", ".safetensors"}
    for path in files:
        if path.suffix == ".safetensors":
            load_file(path)
        else:
            path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["metacog.safetensors", "metacog.json", "calibration.json"])
def test_a_pickle_as_a_layer(
    tiny_model: MetacogModel, tiny_directory: Path, tmp_path: Path, canary: Path, name: str
) -> None:
    tiny_model.save_layer(tmp_path / "layer")
    (tmp_path / "layer" / name).write_bytes(canary_pickle(canary))
    with pytest.raises((CheckpointError, ModelError), match=name.replace(".", r"\.")):
        load_model(tiny_directory, layer=tmp_path / "layer")
    assert not canary.exists()
