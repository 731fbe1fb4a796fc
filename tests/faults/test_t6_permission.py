"""T6: a directory that becomes read-only, a disk that fails: one clear error, and what was saved is whole."""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from metacog.telemetry.manifest import verified
from metacog.telemetry.rundir import RunDir
from tests.faults.processes import Process, Trainer, contents, imitation, wait_until, written

IN_TIME = 30.0
"""Seconds from the fault to the end of the process."""


@pytest.fixture(scope="module")
def endless(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that saves after every step and does not come to its end."""
    document = imitation(tiny_directory)
    document["run"] = {**document["run"], "steps": 100_000, "save_interval": 1}
    return written(document, tmp_path_factory.mktemp("endless") / "recipe.yaml")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDir]:
    """A run's directory, which may be removed again whatever its mode is in the end."""
    there = RunDir(tmp_path / "runs" / "mine")
    there.path.parent.mkdir()
    yield there
    for directory in (there.path.parent, there.path):
        if directory.is_dir():
            directory.chmod(0o755)


def assert_one_error(process: Process, *names: str) -> None:
    assert process.wait() == 1, process.said
    assert process.said.count("metacog: ") == 1, "one error is told"
    assert "Traceback" not in process.said
    for name in names:
        assert name in process.said


def test_permission_that_is_lost_during_a_run(trainer: Trainer, endless: Path, run: RunDir) -> None:
    arguments = ("--run-dir", str(run.path), "--resume", "auto")
    process = trainer.start("train", str(endless), *arguments, obeys=True)
    wait_until(lambda: run.checkpoint(2).is_dir())
    run.path.chmod(0o555)
    lost = time.monotonic()
    assert_one_error(process, os.strerror(errno.EACCES), str(run.path / "checkpoint-"))
    assert time.monotonic() - lost < IN_TIME
    run.path.chmod(0o755)
    whole = {d.name: verified(d).step for d in run.checkpoints()}
    assert whole.keys() >= {"checkpoint-1", "checkpoint-2"}
    named = run.path / run.latest.read_text(encoding="utf-8").strip()
    assert verified(named).step in whole.values()
    assert_goes_on(trainer, endless, run)


def assert_goes_on(trainer: Trainer, endless: Path, run: RunDir) -> None:
    """Resume, and see the run save again with nothing left of the failed save."""
    last = max(verified(d).step for d in run.checkpoints())
    again = trainer.start("train", str(endless), "--run-dir", str(run.path), "--resume", "auto")
    wait_until(lambda: run.checkpoint(last + 1).is_dir())
    again.kill()
    again.wait()
    assert f"at step {last} of" in again.said
    assert verified(run.checkpoint(last + 1)).step == last + 1
    torn = {path.name for path in run.leftovers()}
    assert not [name for name in torn if name.startswith(f".checkpoint-{last + 1}.")]


def test_a_read_only_directory_at_the_start(trainer: Trainer, recipe: Path, run: RunDir) -> None:
    run.path.parent.chmod(0o555)
    process = trainer.start("train", str(recipe), "--run-dir", str(run.path), obeys=True)
    assert_one_error(process, os.strerror(errno.EACCES), str(run.path))
    run.path.parent.chmod(0o755)
    assert list(run.path.parent.iterdir()) == []


@pytest.mark.parametrize("synced", [1, 6, 14])
def test_a_disk_that_fails_while_a_checkpoint_is_written(
    trainer: Trainer, recipe: Path, undisturbed: Path, run: RunDir, synced: int
) -> None:
    arguments = ("train", str(recipe), "--run-dir", str(run.path), "--resume", "auto")
    process = trainer.start(*arguments, fails_after=synced)
    assert_one_error(process, os.strerror(errno.EIO), "--resume auto", "checkpoint-10")
    assert [d.name for d in run.checkpoints()] == ["checkpoint-5"]
    assert contents(run.checkpoint(5)) == contents(undisturbed / "checkpoint-5")
    assert run.latest.read_text(encoding="utf-8") == "checkpoint-5\n"
    assert run.leftovers() == [], "what was half written is gone"
    code, said = trainer.run(*arguments)
    assert code == 0, said
    for name in ("checkpoint-10", "checkpoint-20", "final"):
        assert contents(run.path / name) == contents(undisturbed / name)
