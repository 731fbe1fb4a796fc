"""T5: a disk that takes no more, or a directory that is gone."""

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from metacog.config.run import TrainingConfig
from metacog.errors import RunError
from metacog.telemetry.manifest import verified
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.sinks import MultiSink
from metacog.train.checkpoint import Keeper
from metacog.train.optim import Group, Optimizers
from metacog.train.resume import choose
from metacog.train.state import State
from tests.faults.processes import BELOW_A_CHECKPOINT, Trainer, contents, room_of


class Plain:
    """Has weights and saves them."""

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.ones(20_000))
        self.optimizers = Optimizers([Group("weight", [self.weight], 0.1)])

    def state(self) -> State:
        return State({}, {})

    def load_state(self, _state: State) -> None:
        """There is nothing to take up."""

    def save(self, directory: Path, *, whole: bool = True) -> None:
        (directory / "weight.bin").write_bytes(_bytes(self.weight, whole))


def _bytes(tensor: Tensor, _whole: bool) -> bytes:
    return tensor.detach().numpy().tobytes()


def keeper_at(path: Path) -> Keeper:
    return Keeper(Plain(), TrainingConfig(), RunDir(path), Recorder("test", MultiSink({})))


def test_a_run_on_a_full_disk_keeps_what_it_had_and_goes_on_when_there_is_room(
    trainer: Trainer, recipe: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    short = ("--set", "run.steps=5")
    arguments = ("--run-dir", str(run.path), "--resume", "auto")
    assert trainer.run("train", str(recipe), *short, *arguments)[0] == 0
    before = contents(run.checkpoint(5))
    code, said = trainer.run("train", str(recipe), *arguments, largest_file=BELOW_A_CHECKPOINT)
    assert code == 1
    assert said.count("metacog: ") == 1, "one error is told"
    assert os.strerror(errno.EFBIG) in said
    assert str(run.checkpoint(10)) in said
    assert "Traceback" not in said
    assert contents(run.checkpoint(5)) == before
    assert run.leftovers() == []
    assert run.latest.read_text(encoding="utf-8") == "checkpoint-5\n"
    assert [d.name for d in run.checkpoints()] == ["checkpoint-5"]
    code, said = trainer.run("train", str(recipe), *arguments)
    assert code == 0, said
    for name in ("checkpoint-20", "final"):
        assert contents(run.path / name).keys() == contents(undisturbed / name).keys()


@pytest.mark.parametrize("room", [0, 50, 79_000])
def test_a_full_disk_leaves_the_last_save_whole_and_nothing_half_done(
    tmp_path: Path, room: int
) -> None:
    keeper, run = keeper_at(tmp_path / "run"), tmp_path / "run"
    keeper.checkpoint(1)
    with pytest.raises(RunError, match=r"checkpoint-2.*--resume auto"), room_of(room):
        keeper.checkpoint(2)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint-1", "latest"]
    assert verified(run / "checkpoint-1").step == 1
    keeper.checkpoint(2)
    assert verified(run / "checkpoint-2").step == 2


def test_a_stop_that_cannot_be_saved_leaves_the_stop_before_it(tmp_path: Path) -> None:
    keeper, run = keeper_at(tmp_path / "run"), RunDir(tmp_path / "run")
    keeper.stopped(1)
    before = contents(run.path)
    with pytest.raises(RunError, match=r"What was saved before is as it was"), room_of(50):
        keeper.stopped(2)
    assert contents(run.path) == before
    assert choose(run, "auto").step == 1
    keeper.stopped(2)
    assert choose(run, "auto").step == 2
    assert verified(run.path / "superseded" / "stopped-1").step == 1


def test_a_directory_that_is_lost_during_a_run_is_one_error(tmp_path: Path) -> None:
    keeper, run = keeper_at(tmp_path / "run"), tmp_path / "run"
    keeper.checkpoint(1)
    run.rename(tmp_path / "moved")
    run.write_bytes(b"")
    with pytest.raises(RunError, match=r"Wanted to create .*checkpoint-2, but"):
        keeper.checkpoint(2)
    assert verified(tmp_path / "moved" / "checkpoint-1").step == 1


def test_a_directory_that_cannot_be_made_is_one_error(
    trainer: Trainer, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    code, said = trainer.run("train", str(recipe), "--run-dir", str(tmp_path / "file" / "run"))
    assert code == 1
    assert "Traceback" not in said
    assert f"Wanted to create {tmp_path / 'file' / 'run'}" in said
