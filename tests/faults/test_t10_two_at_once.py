"""T10: two processes never train in one directory, and one that was killed leaves no lock behind."""

from pathlib import Path

import pytest

from metacog.errors import RunError
from metacog.telemetry.lock import locked
from metacog.telemetry.rundir import RunDir
from tests.faults.processes import Trainer, imitation, wait_until, written


def test_the_second_is_refused_and_the_first_goes_on(
    trainer: Trainer, tiny_directory: Path, tmp_path: Path
) -> None:
    document = imitation(tiny_directory)
    document["run"] = {**document["run"], "steps": 100_000, "save_interval": 2}
    recipe = written(document, tmp_path / "recipe.yaml")
    run = RunDir(tmp_path / "run")
    arguments = ("train", str(recipe), "--run-dir", str(run.path), "--resume", "auto")
    first = trainer.start(*arguments)
    wait_until(lambda: run.checkpoint(2).is_dir())
    code, said = trainer.run(*arguments)
    assert code == 1
    assert f'"pid": {first.pid}' in said
    assert "Traceback" not in said
    there = len(run.checkpoints())
    wait_until(lambda: len(run.checkpoints()) > there)
    first.kill()
    assert first.wait() == -9
    again = trainer.start(*arguments)
    reached = max(int(d.name.rpartition("-")[2]) for d in run.checkpoints())
    wait_until(lambda: run.checkpoint(reached + 2).is_dir())
    again.kill()
    again.wait()


def hold_and_fail(path: Path) -> None:
    with locked(path):
        with pytest.raises(RunError, match="nobody's hands"), locked(path):
            pass
        raise ValueError("inside")


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ValueError, match="inside"):
        hold_and_fail(path)
    with locked(path):
        assert '"pid"' in path.read_text(encoding="utf-8")
