"""The checks before a run, on a base that is there, and on what is wrong."""

import shutil
from pathlib import Path

import pytest

from metacog.config import RunConfig, parse
from metacog.telemetry.boot import CHECKS, decode, encode
from metacog.train import boot as module
from metacog.train.boot import boot
from tests.faults.processes import imitation


@pytest.fixture
def config(tiny_directory: Path) -> RunConfig:
    return parse(imitation(tiny_directory), source="test")


def test_every_check_is_made_and_nothing_is_kept(config: RunConfig, tmp_path: Path) -> None:
    found = list(boot(config, runs=tmp_path / "runs"))
    assert [check.name for check in found] == list(CHECKS)
    assert all(check.is_right for check in found), found
    says = {check.name: check.says for check in found}
    assert says["padding"] == "left"
    assert "loss" in says["one step"]
    assert "loss --" not in says["one step"]
    (batch,) = [check for check in found if check.name == "batch"]
    parts = {(piece.part, piece.learned) for row in batch.rows for piece in row}
    assert {("prompt", False), ("think", True), ("answer", True)} <= parts
    assert [decode(encode(check)) for check in found] == found
    assert list(tmp_path.iterdir()) == []


def test_the_first_that_is_wrong_is_the_last(config: RunConfig, tmp_path: Path) -> None:
    model = config.model.model_copy(update={"path": str(tmp_path / "nowhere")})
    found = list(boot(config.model_copy(update={"model": model}), runs=tmp_path))
    assert [check.is_right for check in found] == [True, False]
    assert found[-1].name == "model"
    assert "nowhere" in found[-1].says


def test_a_disk_without_room_is_in_the_way(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: full)
    last = list(boot(config, runs=tmp_path / "runs"))[-1]
    assert (last.name, last.is_right) == ("disk", False)
    assert "but 1000 B are free" in last.says
