"""T3: killed after any system call of a save, a run has a whole checkpoint and knows it."""

from pathlib import Path

import pytest

from metacog.telemetry.manifest import verified
from metacog.telemetry.rundir import RunDir
from metacog.train.resume import choose
from tests.faults.processes import Trainer, contents, imitation, written

CALLS = 92
"""System calls of a save."""
NOW = (1, 40, 70, 85)
"""Those after which the part of `make test` kills."""


@pytest.fixture(scope="module")
def forgetful(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose second save takes the place of the first."""
    document = imitation(tiny_directory)
    document["run"] = {**document["run"], "steps": 2, "save_interval": 1, "keep_last": 1}
    return written(document, tmp_path_factory.mktemp("forgetful") / "recipe.yaml")


@pytest.fixture(scope="module")
def whole(trainer: Trainer, forgetful: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert trainer.run("train", str(forgetful), "--run-dir", str(run))[0] == 0
    return run


@pytest.mark.parametrize(
    "calls",
    [pytest.param(n, marks=() if n in NOW else pytest.mark.slow) for n in range(1, CALLS + 1)],
)
def test_latest_names_a_whole_checkpoint_whatever_the_moment(
    trainer: Trainer, forgetful: Path, whole: Path, tmp_path: Path, calls: int
) -> None:
    run = RunDir(tmp_path / "run")
    code, said = trainer.run("train", str(forgetful), "--run-dir", str(run.path), kill_after=calls)
    assert code == -9, said
    named = run.path / run.latest.read_text(encoding="utf-8").strip()
    assert verified(named).step in (1, 2)
    found = choose(run, "auto")
    assert found.directory is not None
    assert found.step >= verified(named).step, "a checkpoint that was committed is found"
    assert [d.name for d in run.checkpoints()] != [], "nothing is removed before the next is there"
    for directory in run.checkpoints():
        assert verified(directory).step == int(directory.name.rpartition("-")[2])
    if calls % 30 == 10:
        assert_goes_on(trainer, forgetful, run, whole)


def assert_goes_on(trainer: Trainer, recipe: Path, run: RunDir, whole: Path) -> None:
    torn = [path.name for path in run.leftovers()]
    code, said = trainer.run("train", str(recipe), "--run-dir", str(run.path), "--resume", "auto")
    assert code == 0, said
    for name in torn:
        assert f"removed {name}, which was never finished" in said
    assert run.leftovers() == []
    for name in ("checkpoint-2", "final"):
        assert contents(run.path / name) == contents(whole / name)


def test_the_last_call_is_the_last_of_a_save(
    trainer: Trainer, forgetful: Path, tmp_path: Path
) -> None:
    code, said = trainer.run(
        "train", str(forgetful), "--run-dir", str(tmp_path / "run"), kill_after=10**6
    )
    assert code == 0, said
    assert f"{CALLS} system calls in the second save" in said
